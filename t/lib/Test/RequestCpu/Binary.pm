package Test::RequestCpu::Binary;

# The features of the NGINX under test. A part of Test::RequestCpu.

use strict;
use warnings;

use File::Basename qw(dirname);
use Test::More;

# Modules that are built unless they are excluded by --without.
my %default = map { $_ => 1 } qw(gzip ssi auth_basic proxy limit_req limit_conn rewrite map mirror upstream_keepalive);

# What some ways of testing do not have, and the reason that a skipped test gives.
my %reason = (
    load_module => 'the module is a part of this NGINX, and cannot be loaded or unloaded',
    cpu_time    => 'this NGINX is emulated, and its CPU times say nothing',
);

sub version { $_[0]{version} }

sub at_least {
    my ($self, $version) = @_;
    my ($have, $want) = map { sprintf '%03d%03d%03d', split /\./ } $self->{version}, $version;
    return $have ge $want;
}

sub has {
    my ($self, $feature) = @_;
    my $about = $self->{about};
    return $about !~ /--without-(?:http|mail|stream)?_?\Q$feature\E(?:_module)?\b/ if $default{$feature};
    return !$self->{static}           if $feature eq 'load_module';
    return !$ENV{TEST_NGINX_EMULATED} if $feature eq 'cpu_time';
    return $about =~ /--with-threads\b/  if $feature eq 'threads';
    return $about =~ /--with-file-aio\b/ if $feature eq 'file-aio';
    if ($feature =~ /^(?:stream|mail)$/) {
        return 1 if $about =~ /--with-$feature(?![=\w])/;
        return 0 unless $about =~ /--with-$feature=dynamic/;
        return defined $self->_dynamic("ngx_${feature}_module.so");
    }
    return $about =~ /--with-(?:http_)?\Q$feature\E(?:_module)?(?![=\w-])/;
}

# Whether the module is linked into the binary. Its name is in the binary's list of modules then.
sub _is_static {
    my ($self) = @_;
    return $self->slurp($self->{binary}) =~ /\0ngx_http_request_cpu_module\0/;
}

# The path of a dynamic module: below the folder that the package of the binary is unpacked to, which may not be the
# system's, or beside a binary that was not installed.
sub _dynamic {
    my ($self, $file) = @_;
    my $place = dirname($self->{binary});
    my @folders = ($place);
    if (my ($folder) = $self->{about} =~ /--modules-path=(\S+)/) {
        for (; $place ne '/' && $place ne '.'; $place = dirname($place)) { push @folders, "$place$folder" }
        push @folders, $folder;
    }
    elsif (my ($prefix) = $self->{about} =~ /--prefix=(\S+)/) {
        push @folders, "$prefix/modules";
    }
    my ($found) = grep { -e } map { "$_/$file" } @folders;
    return $found;
}

# The load_module line for a part of NGINX that some packages ship as a dynamic module.
sub load {
    my ($self, $feature) = @_;
    return '' if $self->{about} =~ /--with-$feature(?![=\w])/;
    my $file = $self->_dynamic("ngx_${feature}_module.so");
    return $file ? "load_module $file;\n" : '';
}

sub need {
    my ($self, @features) = @_;
    for my $feature (@features) {
        next if $self->has($feature);
        $self->_clean;
        plan(skip_all => $reason{$feature} || "nginx/$self->{version} here has no $feature");
    }
    return $self;
}

# HTTP/2 on a plain port is a parameter of listen before 1.25.1, and a directive since.
sub http2_listen { $_[0]->at_least('1.25.1') ? '' : ' http2' }

sub http2_on     { $_[0]->at_least('1.25.1') ? 'http2 on;' : '' }

1;
