# The module's data for an entry of worker_connections takes memory only after a connection has used the entry.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

# Anonymous memory of a worker in KB.
sub memory {
    my ($t) = @_;
    my ($kb) = $t->slurp('/proc/' . $t->worker . '/status') =~ /^RssAnon:\s+(\d+) kB/m;
    return $kb;
}

my @kb = map {
    my $t = Test::RequestCpu->new(module => $_);
    my $directives = $_ ? 'request_cpu_zone $host zone=hosts:1m; request_cpu zone=hosts;' : '';
    $t->start(events => 'worker_connections 100000;', log => 0, http => <<"EOC");
    $directives
    server { listen 127.0.0.1:{{port:http}}; location / { return 200 "x"; } }
EOC
    is($t->get('/')->{status}, 200, 'NGINX ' . ($_ ? 'with' : 'without') . ' the module serves');
    my $kb = memory($t);
    is($t->stop, 0, 'and ends');
    $kb;
} 0, 1;

# 128 bytes for each entry would be 12,500 KB
cmp_ok($kb[1] - $kb[0], '<', 5_000,
    "with 100,000 worker_connections the module takes little more: $kb[0] KB, $kb[1] KB");
done_testing();
