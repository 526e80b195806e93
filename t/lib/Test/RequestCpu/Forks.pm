package Test::RequestCpu::Forks;

# The forks of NGINX, and the tests that cannot hold on them. A part of Test::RequestCpu.
#
# A test that depends on the fork is told in the table below: fork, "file: what", reason. The test calls
# skip_on_fork('file: what', COUNT) in a SKIP block, and the reason is printed.

use strict;
use warnings;

use Test::More;

my %reason = (
    angie => {
        'advice: $http_host' => 'Angie sets $http_host for HTTP/3 too',
        'shutdown: idle connections' =>
            'on QUIT, a worker of Angie without worker_shutdown_timeout closes an idle connection after the others',
    },
    openresty => {
        'single_process: reload' => 'with master_process off, OpenResty ends on HUP (ngx_signal_handler)',
    },
);

# The name of the fork under test, in lower case: nginx, angie, freenginx, openresty or tengine. A fork prints its name
# in the first line ("Angie version: Angie/1.13.0"), or in the version ("nginx version: openresty/1.31.3.1").
sub fork_name {
    my ($self) = @_;
    my ($name) = $self->{about} =~ m{^\w+ version: ([\w-]+)/};
    return lc($name // 'nginx');
}

# The reason why a test cannot hold on this fork; undef if it can.
sub fork_reason { my ($self, $what) = @_; return $reason{ $self->fork_name }{$what} }

# Skips COUNT tests of a SKIP block if they cannot hold on this fork.
sub skip_on_fork {
    my ($self, $what, $count) = @_;
    my $reason = $self->fork_reason($what) or return;
    skip($reason, $count);
}

# Directives of `http` that a fork needs to start without a warning.
sub fork_http {
    my ($self) = @_;
    # Tengine has so many variables that its table of variables is full
    return $self->fork_name eq 'tengine' ? 'variables_hash_max_size 2048;' : '';
}

1;
