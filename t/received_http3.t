# Bytes that an HTTP/3 request has received, whether its body is read or not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;

my $t = Test::RequestCpu->new->need('http_v3');
my ($python) = grep { $_ && system("$_ -c 'import aioquic' >/dev/null 2>&1") == 0 }
    $ENV{TEST_PYTHON}, "$FindBin::Bin/../target/python/bin/python3", 'python3';
plan(skip_all => 'no Python with aioquic, the HTTP/3 client of this test') unless $python;
$t->certificate('h3', 'h3');
$t->html('large.txt', 'x' x 1_000_000);
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub { $_[0]->answer("answer\n") });
$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    client_max_body_size 10m;
    server {
        listen 127.0.0.1:{{port:h3}} quic;
        ssl_protocols TLSv1.3;
        ssl_certificate {{dir}}/h3.pem; ssl_certificate_key {{dir}}/h3.key;
        http3 on;
        location / { }
        location = /proxy { proxy_pass http://127.0.0.1:{{port:upstream}}; }
        # it takes as long as this that the answer is sent, and nobody reads the body
        location = /slow { limit_rate 1m; alias {{dir}}/html/large.txt; }
    }
EOC

sub upload {
    my (@requests) = @_;
    my ($status, $output) = run_command($python, "$FindBin::Bin/lib/h3_upload.py", $t->port('h3'),
        (map { @$_ } @requests), { stdout_only => 1 });
    return $status == 0 ? @{ JSON::PP->new->decode($output) } : diag("HTTP/3 client failed: $output");
}

my @cases = ([ 'POST', 'a.test', '/proxy', 2_000_000 ], [ 'POST', 'b.test', '/proxy', 100 ],
    [ 'GET', 'c.test', '/slow', 40_000 ],
    [ 'GET', 'd.test', '/slow', 1000 ]);
my @answers = upload(@cases);
is_deeply([ map { $_->{status} } @answers ], [ (200) x @cases ], 'all are answered');
for my $case (@cases) {
    my ($method, $host, $uri, $size) = @$case;
    my $received = $t->account_with('hosts', $host, 1)->{received_bytes};
    cmp_ok($received, '>=', $size, "$size bytes to $uri are counted");
    cmp_ok($received, '<', $size * 1.01 + 200, 'once');
}

# A stream has a window of 64 kB; unread bytes do not open it further
@answers = upload([ 'GET', 'e.test', '/slow', 1_000_000 ]);
my $received = $t->account_with('hosts', 'e.test', 1)->{received_bytes};
cmp_ok($received, '>', 60_000, 'of a larger body, the bytes that the client may send are counted');
cmp_ok($received, '<', 70_000, 'and no more than that');

$t->done;
