# The values of the variables over the life of a request.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->html('big.txt', words(2_000_000));

# Without a zone: using a variable switches the measurement on.
$t->start(http => <<"EOC");
    log_format twice '\$request_uri \$request_cpu_ns \$request_cpu_time \$request_cpu_wakeups \$request_cpu_connection_ns';
    log_format early '\$request_uri \$early \$late \$request_cpu_ns';
    map \$request_cpu_ns \$measured { ~^[1-9][0-9]*\$ yes; default no; }
    log_format map '\$request_uri \$measured';
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /empty { return 204; }
        location = /post { client_max_body_size 10m; return 200 "done\\n"; }
        location = /header {
            add_header X-Cpu-Ns \$request_cpu_ns;
            add_header X-Cpu-Time \$request_cpu_time;
            add_header X-Cpu-Wakeups \$request_cpu_wakeups;
            add_header X-Cpu-Connection \$request_cpu_connection_ns;
            alias {{dir}}/html/big.txt;
            gzip on; gzip_types *; gzip_comp_level 9;
        }
        location = /set {
            set \$early \$request_cpu_ns;
            @{[ burn_rules(1) ]}
            set \$late \$request_cpu_ns;
            access_log {{dir}}/access.log facts;
            access_log {{dir}}/early.log early;
            return 200 "\$early \$late\\n";
        }
        location = /twice {
            access_log {{dir}}/access.log facts;
            access_log {{dir}}/twice.log twice;
            access_log {{dir}}/twice.log twice;
            access_log {{dir}}/map.log map;
            access_log {{dir}}/if.log twice if=\$request_cpu_ns;
            return 200 "twice\\n";
        }
    }
EOC

# Formats, over several kinds of request
my $modified = $t->get('/a.txt')->{headers}{'last-modified'};
$t->get('/a.txt', method => 'HEAD');
$t->get('/empty');
$t->get('/none');
$t->get('/post', method => 'POST', body => 'x' x 100_000);
$t->get('/a.txt', headers => { Range => 'bytes=1-2' });
$t->get('/a.txt', headers => { 'If-Modified-Since' => $modified });
$t->get('/a.txt', version => '1.0');
my $twenty = $t->connect('http');
$twenty->get('/a.txt') for 1 .. 20;
$twenty->close;

my @lines = $t->logged(28);
is_deeply([ map { $_->{status} } @lines[0 .. 7] ], [ 200, 200, 204, 404, 200, 206, 304, 200 ],
    'every kind of request was answered');
my $count = @lines;
is(scalar(grep { $_->{time} =~ /^\d+\.\d{9}\z/ } @lines), $count, '$request_cpu_time is seconds with nine decimals');
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*\z/ } @lines), $count, '$request_cpu_ns is an integer, and no request is free');
is(scalar(grep { $_->{wakeups} =~ /^[1-9]\d*\z/ } @lines), $count,
    '$request_cpu_wakeups is an integer, and there is one at least');
is(scalar(grep { $_->{conn_ns} =~ /^\d+\z/ && $_->{conn_ns} <= $_->{ns} } @lines), $count,
    '$request_cpu_connection_ns is an integer, and a part of $request_cpu_ns');
is(scalar(grep { my ($s, $ns) = split /\./, $_->{time}; "$s$ns" + 0 == $_->{ns} } @lines), $count,
    '$request_cpu_time and $request_cpu_ns say the same');
cmp_ok($lines[0]{conn_ns}, '>', 0, 'the first request of a connection takes over the CPU of its accept');

# The value so far, and the final value
my $answer = $t->get('/header', headers => { 'Accept-Encoding' => 'gzip' });
my ($line) = $t->logged(1, sub { $_[0]{uri} eq '/header' });
my $header = $answer->{headers};
like($header->{'x-cpu-ns'}, qr/^[1-9]\d*$/, 'add_header can tell the CPU so far');
like($header->{'x-cpu-time'}, qr/^\d+\.\d{9}$/, 'also in seconds');
like($header->{'x-cpu-wakeups'}, qr/^[1-9]\d*$/, 'and the wakeups so far');
cmp_ok($header->{'x-cpu-connection'}, '<=', $header->{'x-cpu-ns'}, 'and the connection\'s part, which is a part');
cmp_ok($header->{'x-cpu-ns'}, '<', $line->{ns} / 2, 'CPU after the header is not in it, but in the log');
cmp_ok($header->{'x-cpu-wakeups'}, '<=', $line->{wakeups}, 'wakeups only grow');

$answer = $t->get('/set?x=' . burn_text(19));
$t->logged(1, sub { $_[0]{uri} =~ m{^/set} });
my ($early, $late) = split ' ', $answer->{body};
wait_until(60, sub { -s $t->dir . '/early.log' });
my (undef, $early_in_log, $late_in_log, $final) = split ' ', $t->slurp($t->dir . '/early.log');
cmp_ok($early, '>', 0, 'set reads the CPU so far');
cmp_ok($late - $early, '>', $early, 'a second reading in the same handler call includes the CPU in between');
is("$early_in_log $late_in_log", "$early $late", 'a value that was set does not change');
cmp_ok($final, '>=', $late, 'and the log has no less');

# All uses in one request have the same value
$t->get('/twice') for 1 .. 3;
my @facts = $t->logged(3, sub { $_[0]{uri} eq '/twice' });
my @expected = map { ("/twice $_->{ns} $_->{time} $_->{wakeups} $_->{conn_ns}") x 2 } @facts;
wait_until(60, sub { $t->slurp($t->dir . '/twice.log') =~ tr/\n// >= 6 });
is_deeply([ split /\n/, $t->slurp($t->dir . '/twice.log') ], \@expected,
    'every log line of a request shows the same values');
is($t->slurp($t->dir . '/map.log'), "/twice yes\n" x 3, 'the variables work in a map');
is($t->slurp($t->dir . '/if.log') =~ tr/\n//, 3, 'and in the condition of access_log');

# The same after a reload
ok($t->reload, 'reload');
$t->get('/a.txt?after');
($line) = $t->logged(1, sub { $_[0]{uri} eq '/a.txt?after' });
like($line->{ns}, qr/^[1-9]\d*$/, 'requests are measured after a reload');

my $status = $t->status;
is_deeply($status->{zones}, {}, 'no zone is shown where none is configured');

$t->done;
