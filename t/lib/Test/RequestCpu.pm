package Test::RequestCpu;

# Runs a real NGINX with the module in its own folder, on free loopback ports. Reads what it did: its access log, its
# accounts, its worker totals, and the CPU time of its workers by the kernel's count. Core Perl only.
#
# Each file below has the methods of one concern. A test file needs only this one.

use strict;
use warnings;

use Exporter 'import';
use File::Path qw(make_path);
use File::Temp ();
use Test::More;

use Test::RequestCpu::Accounts qw(parse_prometheus);
use Test::RequestCpu::Checks qw(totals_faults);
use Test::RequestCpu::Child qw(detached);
use Test::RequestCpu::Content qw(burn_rules burn_text words);
use Test::RequestCpu::Figures qw(least median sum within);
use Test::RequestCpu::Port qw(free_port);
use Test::RequestCpu::Process qw(_die_with_parent run_command wait_until);

use parent map { "Test::RequestCpu::$_" }
    qw(Cleanup Binary Forks Configuration Server Requests Accounts CpuTime Checks);

our @EXPORT = qw(median sum least within run_command free_port wait_until burn_rules burn_text words detached);

sub new {
    my ($class, %option) = @_;
    my $binary = $ENV{TEST_NGINX_BINARY} or BAIL_OUT('TEST_NGINX_BINARY names no NGINX; run scripts/test');
    my $module = $ENV{TEST_NGINX_MODULE};
    my $self = bless {
        binary   => $binary,
        module   => $module,
        with     => defined $option{module} ? $option{module} : 1,
        port     => {},
        children => [],
        expected => [],
        owner    => $$,
    }, $class;
    $self->{static} = !$module && $self->_is_static;
    if ($self->{with} && !$self->{static} && !($module && -e $module)) {
        BAIL_OUT('TEST_NGINX_MODULE names no module; run scripts/test');
    }

    $self->{temp} = File::Temp->newdir('request-cpu-XXXXXX', TMPDIR => 1, CLEANUP => !$ENV{TEST_KEEP});
    $self->{dir} = $self->{temp}->dirname;
    diag("keeping $self->{dir}") if $ENV{TEST_KEEP};
    chmod 0755, $self->{dir};
    make_path("$self->{dir}/html", "$self->{dir}/temp");

    my $about = `$binary -V 2>&1`;
    $self->{about} = $about;
    # a fork prints its name in the line before, or in this one: "nginx version: openresty/1.27.1.2"
    ($self->{version}) = $about =~ m{^nginx version: [\w-]+/(\d+\.\d+\.\d+)}m
    or BAIL_OUT("$binary is no NGINX: $about");
    $class->remember($self);
    return $self;
}

# The end of a test: the worker totals add up, NGINX ends with status 0, the error log is clean.
sub done {
    my ($self, %option) = @_;
    if ($self->{pid}) {
        $self->check_totals(%option) if $self->{status_port} && !$option{no_totals};
        my $left = $self->stop;
        is($left, 0, 'NGINX ends by itself');
    }
    $_->_clean for splice @{ $self->{children} };
    my @bad = $self->log_faults;
    ok(!@bad, 'nothing at alert, emerg or crit in the error log')
        or diag(join "\n", @bad[0 .. ($#bad > 20 ? 20 : $#bad)]);
    $self->_clean;
    unless ($option{more}) { done_testing() }
}

sub _clean {
    my ($self) = @_;
    return if $$ != $self->{owner};
    $_->_clean for splice @{ $self->{children} };
    for (delete $self->{old}, $self->{pid}) {
        next unless $_;
        $self->{pid} = $_;
        $self->stop(signal => 'TERM', within => 3);
    }
    Test::RequestCpu->forget($self);
}

sub DESTROY { my ($self) = @_; local ($?, $@, $!); $self->_clean if $self->{pid} && $$ == $self->{owner} }

1;
