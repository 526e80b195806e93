package Test::RequestCpu::Configuration;

# The folder of a test: the configuration and its files. A part of Test::RequestCpu.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Path qw(make_path);
use Test::RequestCpu::Port qw(free_port);
use Test::RequestCpu::Process qw(run_command);

my @log_fields = (
    uri => '$request_uri', final_uri => '$uri', host => '$host', server => '$server_name', method => '$request_method',
    status => '$status', time => '$request_cpu_time', ns => '$request_cpu_ns', wakeups => '$request_cpu_wakeups',
    conn_ns => '$request_cpu_connection_ns', order => '$connection_requests', connection => '$connection',
    sent => '$bytes_sent', received => '$request_length', cache => '$upstream_cache_status', took => '$request_time',
    protocol => '$server_protocol', pid => '$pid',
);

# Makes a new key, "rsa" or "ecdsa", and a self-signed certificate: $name.key and $name.pem in the test's folder.
my %new_key = (rsa => [ '-newkey', 'rsa:2048' ], ecdsa => [ '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256' ]);

sub dir     { $_[0]{dir} }

sub port {
    my ($self, $name) = @_;
    return $self->{port}{$name} ||= free_port();
}

sub fill {
    my ($self, $text) = @_;
    $text =~ s/\{\{dir\}\}/$self->{dir}/g;
    $text =~ s/load_module \{\{module\}\};//g if $self->{static};
    $text =~ s/\{\{module\}\}/$self->{module}/g;
    $text =~ s/\{\{port:(\w+)\}\}/$self->port($1)/ge;
    $text =~ s/\{\{http2\}\}/$self->http2_listen/ge;
    $text =~ s/\{\{http2_on\}\}/$self->http2_on/ge;
    return $text;
}

sub _log_format {
    my ($self) = @_;
    my @members;
    for (my $i = 0; $i < @log_fields; $i += 2) {
        my ($name, $value) = @log_fields[$i, $i + 1];
        $value = '-' if !$self->{with} && $value =~ /request_cpu/;
        push @members, qq{"$name":"$value"};
    }
    return "log_format facts escape=json '{" . join(',', @members) . "}';";
}

sub _config {
    my ($self, %part) = @_;
    if (defined $part{raw}) {
        my $needs = $self->fork_http;
        return $needs ? $part{raw} =~ s/\bhttp \{/http { $needs/r : $part{raw};
    }
    my ($main, $events, $http, $extra) = map { defined $part{$_} ? $part{$_} : '' } qw(main events http extra);
    # as an ordinary user, NGINX warns about the directive; as root, it would give up its right to the test's folder
    my $user = $> == 0 ? 'user root;' : '';
    my $load = $self->{with} ? 'load_module {{module}};' : '';
    $main = "worker_processes 1;\n$main" unless $main =~ /\bworker_processes\b/;
    my $text = "$load\n$user\n$main\nevents { $events }\n";
    $self->{status_port} = $self->{with} && defined $part{http} && (!defined $part{status} || $part{status});
    if (defined $part{http}) {
        my $status = $self->{status_port} ? <<'EOC' : '';
    server {
        listen 127.0.0.1:{{port:status}} backlog=64;
        server_name status.test;
        access_log off;
        request_cpu off;
        location / { request_cpu_status; }
    }
EOC
        my $log = defined $part{log} && !$part{log} ? 'access_log off;'
            : $self->_log_format . "\n    access_log {{dir}}/access.log facts;";
        my $temp = join "\n    ", map { "${_}_temp_path {{dir}}/temp/$_;" } grep {
            $self->{about} !~ /--without-http_${_}_module/
        } qw(proxy fastcgi uwsgi scgi);
        $text .= <<"EOC";
http {
    @{[ $self->fork_http ]}
    client_body_temp_path {{dir}}/temp/body;
    $temp
    root {{dir}}/html;
    default_type text/plain;
    $log
$http
$status
}
EOC
    }
    return "$text$extra\n";
}

sub _write_config {
    my ($self, %part) = @_;
    my $text = $self->fill($self->_config(%part));
    # a test must not write to NGINX's default paths
    $text = "pid $self->{dir}/nginx.pid;\n$text"                unless $text =~ /^\s*pid\s/m;
    $text = "lock_file $self->{dir}/nginx.lock;\n$text"         unless $text =~ /^\s*lock_file\s/m;
    my $level = $ENV{TEST_LOG_LEVEL} || 'info';
    $text = "error_log $self->{dir}/error.log $level;\n$text"   unless $text =~ /^\s*error_log\s/m;
    $self->write_file("$self->{dir}/nginx.conf", $text);
}

sub write_file {
    my ($self, $path, $content) = @_;
    open my $file, '>', $path or die "cannot write $path: $!\n";
    binmode $file;
    print {$file} $content;
    close $file;
}

sub certificate {
    my ($self, $kind, $name) = @_;
    my ($status, $output) = run_command('openssl', 'req', '-x509', '-nodes', @{ $new_key{$kind} }, '-days', 2,
        '-subj', "/CN=$name.test", '-keyout', "$self->{dir}/$name.key", '-out', "$self->{dir}/$name.pem");
    die $output if $status;
}

# Writes a file below the document root.
sub html {
    my ($self, $name, $content) = @_;
    my $path = "$self->{dir}/html/$name";
    make_path(dirname($path));
    $self->write_file($path, $content);
}

sub slurp {
    my ($self, $path) = @_;
    open my $file, '<', $path or return '';
    binmode $file;
    local $/;
    my $text = <$file>;
    return defined $text ? $text : '';
}

# Runs `nginx -t` on a configuration. Returns its exit status and its messages.
sub try_config {
    my ($self, %part) = @_;
    $self->_write_config(%part);
    my ($status, $output) = run_command($self->{binary}, '-t', '-e', 'stderr', '-p', "$self->{dir}/", '-c',
        "$self->{dir}/nginx.conf");
    return ($status, $output . $self->slurp("$self->{dir}/error.log"));
}

1;
