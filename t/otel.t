# The span of each request has its CPU time: the value of the access log.
#
# TEST_OTEL_MODULE names NGINX's module for OpenTelemetry, built for the NGINX of the tests. TEST_OTEL_PYTHON names a
# python with the packages grpcio and opentelemetry-proto.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use Test::More;
use Test::RequestCpu;

my $otel = $ENV{TEST_OTEL_MODULE} or plan(skip_all => 'TEST_OTEL_MODULE names no module for OpenTelemetry');
my $python = $ENV{TEST_OTEL_PYTHON} // 'python3';
my $t = Test::RequestCpu->new;
my $spans = $t->dir . '/spans';
$t->html('a.txt', "plain\n");
$t->html('b.txt', 'x' x 3_000_000);
my @collector = ($python, "$FindBin::Bin/lib/otel_collector.py", $t->port('otlp'), $spans);
$t->spawn(sub { exec @collector or die "exec: $!\n" });
ok(wait_until(120, sub { eval { $t->connect('otlp')->close; 1 } }), 'a collector listens');

# the lines of the documentation
my $page = $t->slurp("$FindBin::Bin/../docs/src/opentelemetry.md");
my ($lines) = $page =~ /^(    otel_exporter .*?)^    server /ms or BAIL_OUT('no configuration in opentelemetry.md');
like($lines, qr/otel_span_attr \S+ +\$request_cpu_ns;/, 'the example of the documentation has the CPU time');
$lines =~ s/localhost:4317;/127.0.0.1:{{port:otlp}}; interval 100ms;/;
$t->start(status => 0, main => "load_module $otel;", http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
$lines
    server { listen 127.0.0.1:{{port:http}}; location / { } }
    server { listen 127.0.0.1:{{port:proxy}}; location / { proxy_pass http://127.0.0.1:{{port:http}}; } }
EOC
my %uri = ('plain.test' => '/a.txt', 'large.test' => '/b.txt', 'missing.test' => '/missing');
$t->get($uri{$_}, host => $_) for sort keys %uri;
$t->get('/a.txt', port => 'proxy', host => 'proxy.test');
my @logged = $t->logged(5);
sub read_spans {
    my @lines = split /\n/, -e $spans ? $t->slurp($spans) : '';
    return map { JSON::PP->new->utf8->decode($_) } @lines;
}
ok(wait_until(30, sub { read_spans() == 5 }), 'a span arrives for each request') or diag(explain([ read_spans() ]));
is_deeply([ sort map { $_->{attributes}{'nginx.request_cpu_ns'} } read_spans() ], [ sort map { "$_->{ns}" } @logged ],
    'its CPU time is that of the access log');
is_deeply([ grep { !/^[1-9]\d*$/ } map { $_->{attributes}{'nginx.request_cpu_wakeups'} } read_spans() ], [],
    'with the number of handler calls');

$t->done(no_totals => 1);
