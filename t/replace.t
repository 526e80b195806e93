# The file of the module is replaced under its name, or the module is removed: what docs/src/upgrade.md says.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use File::Copy qw(copy);
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
my $path = $t->dir . '/module.so';

# Puts a new file in the place of the old one, as mv, install and package managers do it. Returns its inode.
sub place_file {
    copy($t->{module_of_test}, "$path.new") or die "cannot copy the module: $!\n";
    rename "$path.new", $path or die "rename: $!\n";
    return (stat $path)[1];
}

# The inodes of the module that a process has mapped.
sub mapped {
    my ($pid) = @_;
    my %inodes = map { $_ => 1 } $t->slurp("/proc/$pid/maps") =~ m{\s(\d+)\s+\Q$path\E}mg;
    return [ sort keys %inodes ];
}

sub requests { my ($least) = @_; return $t->account_with('hosts', 'a.test', $least)->{requests} }

$t->{module_of_test} = $t->{module};
$t->{module} = $path;
my $first = place_file();
my $http = <<'EOC';
    request_cpu_zone $host zone=hosts:1m;
    request_cpu zone=hosts;
    server { listen 127.0.0.1:{{port:http}}; location / { return 200 ok; } }
EOC
$t->start(daemon => 1, http => $http);
$t->get('/', host => 'a.test') for 1 .. 5;
is(requests(5), 5, 'requests are counted');

my $second = place_file();
isnt($second, $first, 'a new file has the name of the old one');
ok($t->reload, 'a reload');
is_deeply(mapped($_), [$first], 'does not read it: the old code stays in use') for $t->master, $t->workers;
$t->get('/', host => 'a.test') for 1 .. 5;
is(requests(10), 10, 'and counters go on');

ok($t->upgrade, 'a binary upgrade');
is($t->retire, 0, 'to the end');
is_deeply(mapped($_), [$second], 'reads the new file') for $t->master, $t->workers;
$t->get('/', host => 'a.test') for 1 .. 5;
is(requests(15), 15, 'and counters go on');

# Removed and brought back
my $raw = sub {
    my ($is_loaded, $more) = @_;
    my $user = $> == 0 ? 'user root;' : '';
    my $load = $is_loaded ? 'load_module {{module}};' : '';
    my $zone = $is_loaded ? $http : 'server { listen 127.0.0.1:{{port:http}}; location / { return 200 ok; } }';
    my $status = $is_loaded ? 'server { listen 127.0.0.1:{{port:status}}; location / { request_cpu_status; } }' : '';
    return "$load\n$user\nworker_processes 1;\nevents { }\nhttp { access_log off; $more $zone $status }\n";
};
is_deeply(mapped($t->master), [$second], 'the module is loaded');
my ($status, $output) = $t->try_config(raw => $raw->(0, 'log_format l "$request_cpu_time"; access_log logs l;'));
is($status, 1, 'a variable is left after the module was removed: nginx -t fails');
like($output, qr/unknown "request_cpu_time" variable/, 'with its name');
($status, $output) = $t->try_config(raw => $raw->(0, 'request_cpu off;'));
is($status, 1, 'a directive is left: nginx -t fails');
like($output, qr/unknown directive "request_cpu"/, 'with its name');

ok($t->reload(raw => $raw->(0, ''), main => 'worker_processes 1;'), 'a reload without any');
ok(wait_until(60, sub { !@{ mapped($t->master) } }), 'removes the library');
is($t->get('/', host => 'a.test')->{status}, 200, 'requests are served');
ok($t->reload(raw => $raw->(1, '')), 'the module comes back');
is_deeply(mapped($t->master), [$second], 'from its file');
$t->get('/', host => 'a.test');
is(requests(1), 1, 'without a state file, counters begin at zero');

$t->done(no_totals => 1);
