# A release that counts more takes over the accounts of the release before, by a reload and by a binary upgrade. So does
# a release that counts less.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

# the same module, built with the feature example-counter: see scripts/test
my $more = $ENV{TEST_NGINX_MODULE_MORE}
    or plan skip_all => 'TEST_NGINX_MODULE_MORE names no module with one counter more';

my $t = Test::RequestCpu->new;
my $less = $t->{module};
$t->html('a.txt', "plain\n");

my $http = <<'EOC';
    request_cpu_zone $host zone=hosts:1m;
    request_cpu_zone $uri zone=uris:64k;
    request_cpu zone=hosts zone=uris;
    request_cpu_log traffic.log zone=hosts interval=3660d;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
    }
EOC

my $sent = 0;
my @hosts = map { "$_.test" } 1 .. 20;

# A request to each host; then the accounts of all of them, once they have all requests.
sub accounts_after_requests {
    for my $host (@hosts) { $t->get('/a.txt', host => $host) }
    $sent++;
    return { map { $_ => $t->account_with('hosts', $_, $sent) } @hosts };
}

# What only grows, and does not change while no request is served.
sub counters {
    my ($account) = @_;
    my %counters = map { $_ => $account->{$_} } qw(requests responses cpu_ns wakeups sent_bytes received_bytes
        duration_ms memory_byte_ms by_cache_status by_connection_order by_response_size by_request_cpu);
    return \%counters;
}

sub check {
    my ($how, $before, $has_example) = @_;
    my $now = { map { $_ => counters($t->account('hosts', $_)) } @hosts };
    is_deeply($now, { map { $_ => counters($before->{$_}) } @hosts },
        "$how: all counters of all accounts are as they were");
    is($t->account('uris', '/a.txt')->{requests}, $sent * @hosts, "$how: also in a second zone");
    is(exists $t->account('hosts', '1.test')->{example_ns}, $has_example, "$how: the module is the other one");
    unlike($t->error_log, qr/does not go on with the accounts/, "$how: no table is refused");
    my $after = accounts_after_requests();
    is_deeply([ map { $after->{$_}{requests} } @hosts ], [ ($sent) x @hosts ], "$how: accounts go on");
}

$t->start(daemon => 1, http => $http);
my $before = accounts_after_requests();
is($before->{'1.test'}{example_ns}, undef, 'the module has no example counter');

$t->{module} = $more;
ok($t->reload(http => $http), 'a reload to a module with one counter more');
check('more counters, by a reload', $before, 1);

$before = accounts_after_requests();
$t->{module} = $less;
ok($t->reload(http => $http), 'a reload to a module with one counter less');
check('less counters, by a reload', $before, '');

$before = accounts_after_requests();
$t->{module} = $more;
ok($t->upgrade(http => $http), 'a binary upgrade to a module with one counter more');
# until then, its workers answer too, and count in their own table
is($t->retire, 0, 'the old master leaves');
check('more counters, by a binary upgrade', $before, 1);

$t->stop;
my %logged;
for (split /\n/, $t->slurp($t->dir . '/traffic.log')) {
    my ($key) = /"key":"([^"]+)"/;
    my ($requests) = /"requests":(\d+)/;
    $logged{$key} += $requests;
}
is_deeply(\%logged, { map { $_ => $sent } @hosts }, 'the traffic log has every request once');

$t->done;
