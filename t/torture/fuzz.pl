# Random bytes: in keys, in requests for the status endpoint, and in the configuration.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use JSON::PP ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Torture;
use Time::HiRes qw(time);

my ($requests, $configurations) = (8_000, 400);
my $seed = $ENV{TORTURE_SEED} || int(time) % 100_000;
srand $seed;
note("TORTURE_SEED=$seed");

sub one_of { return $_[ rand @_ ] }
sub bytes { my ($most) = @_; return join '', map { chr rand 256 } 1 .. rand(1 + $most) }
sub escaped { my ($text) = @_; return join '', map { sprintf '%%%02X', ord } split //, $text }

# Changes a small part of a text.
sub mutated {
    my ($text) = @_;
    for (1 .. 1 + rand 3) {
        my $at = int rand(1 + length $text);
        my $what = rand 7;
        if    ($what < 1) { substr($text, $at, 1) = '' if length $text > $at }
        elsif ($what < 2) { substr($text, $at, 0) = chr rand 256 }
        elsif ($what < 3) { substr($text, $at, 1) = chr rand 256 if length $text > $at }
        elsif ($what < 4) {
            substr($text, $at, 0) = one_of('zone=', '*', '"', '\\', '%', '%0', '%00', '=', ':', '&', ';', ',', '-',
                "\xF0\x9F", "\xC3\xA9", '$', '{', '}', ' ', '0' x 30, '9' x 19);
        }
        elsif ($what < 5) { substr($text, $at) = '' }
        elsif ($what < 6) { $text .= $text if length $text < 2000 }
        else { $text .= 'x' x one_of(254, 255, 256, 1000) }
    }
    return $text;
}

#
# Keys and the status endpoint
#

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->start(main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$http_x_key zone=bytes:4m;
    request_cpu_zone \$http_x_key zone=small:32k;
    request_cpu zone=bytes zone=small;
    keepalive_requests 100000;
    large_client_header_buffers 4 16k;
    ignore_invalid_headers off;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location /low { request_cpu_status detail=low; request_cpu off; }
        location /cpu { request_cpu_status; request_cpu off; }
        location /prometheus { request_cpu_status format=prometheus; request_cpu off; }
    }
EOC
my @workers = $t->workers;

# Any bytes that a header can have are a key. The key is found again by its bytes.
my %key;
my $connection = $t->connect('http');
for (1 .. 300) {
    my $key = rand() < 0.3 ? mutated(one_of('a.test', '*', '\\x41', '"', '{{}}')) : bytes(300);
    $key =~ s/[\0\r\n]//g;
    $key =~ s/^[ \t]+|[ \t]+$//g;
    $connection->request('/a.txt', headers => { 'X-Key' => $key });
    my $status = $connection->response->{status};
    if ($status == 200) { $key{ substr $key, 0, 255 }++ if length $key; next }
    $connection->close;
    $connection = $t->connect('http');
}
$connection->close;
cmp_ok(scalar keys %key, '>', 200, 'keys of any bytes are taken');
my @lost;
for my $key (keys %key) {
    my $answer = $t->get('/cpu?format=json&zone=bytes&key=' . escaped($key));
    my $accounts = $answer->{status} == 200 && eval { JSON::PP->new->utf8->decode($answer->{body}) };
    my @found = $accounts ? values %{ $accounts->{zones}{bytes}{keys} } : ();
    push @lost, escaped($key) unless @found == 1 && $found[0]{requests} == $key{$key};
}
is_deeply(\@lost, [], 'and each is found by its bytes, with its requests');
my $all = $t->status('zone=bytes')->{zones}{bytes};
is(scalar keys %{ $all->{keys} }, $all->{accounts} + ($key{'*'} ? 1 : 0), 'no two of them look the same');
my ($samples, $text) = $t->prometheus;
ok(utf8::decode(my $copy = $text), 'the text for Prometheus is UTF-8');
my ($status, $faults) = run_command('promtool', 'check', 'metrics', { input => $text });
SKIP: {
    skip('promtool is not installed', 1) if $status == 127;
    is($status, 0, 'in which promtool finds no fault') or diag($faults);
}

# Requests for the status
my @accepts = ('*/*', 'text/html,application/xhtml+xml,*/*;q=0.8', 'application/json',
    'text/plain;version=0.0.4;q=0.5,*/*;q=0.1', 'application/openmetrics-text; version=1.0.0,text/*;q=0.3');
my @arguments = ('format=json', 'format=prometheus', 'format=auto', 'format=html', 'zone=bytes', 'zone=small', 'key=*',
    'key=a.test', 'detail=low', 'detail=full', 'refresh=1');
my %answers;
my @strange;
$connection = undef;
for my $n (1 .. $requests) {
    # sometimes for all accounts, mostly for one or none
    my @parts = map { rand() < 0.5 ? one_of(@arguments) : mutated(one_of(@arguments)) } 0 .. rand 5;
    push @parts, 'key=' . (rand() < 0.7 ? bytes(20) : escaped(bytes(20))) if rand() < 0.99;
    my $query = join '&', @parts;
    $query =~ s/([\0-\x20\x7F#])/rand() < 0.5 ? '' : escaped($1)/ge;
    my $accept = rand() < 0.3 ? bytes(60) : mutated(join ', ', map { one_of(@accepts) } 0 .. rand 4);
    $accept =~ s/[\0\r\n]//g;
    my $method = rand() < 0.9 ? 'GET' : one_of(qw(HEAD POST PUT OPTIONS DELETE TRACE PATCH));
    my $uri = one_of('/cpu', '/cpu', '/low', '/prometheus', '/cpu/' . one_of('', 'a', '%00', '..x')) . "?$query";

    $connection ||= $t->connect('http');
    my $answer = $connection->request($uri, method => $method, headers => { Accept => $accept })
        ? $connection->response(method => $method) : { status => 0 };
    $answers{ $answer->{status} }++;
    my $fault = $answer->{status} =~ /^(?:200|400|404|405|414)$/ ? undef : "status $answer->{status}";
    my $type = $answer->{headers}{'content-type'} || '';
    if ($type eq 'application/json' && $method ne 'HEAD') {
        $fault ||= 'no JSON' unless eval { JSON::PP->new->utf8->decode($answer->{body}) };
    } elsif ($type =~ m{^text/plain; version} && $method ne 'HEAD' && $answer->{status} == 200) {
        $fault ||= "no Prometheus: $@" unless eval { Test::RequestCpu::parse_prometheus($answer->{body}); 1 };
    }
    push @strange, "$fault: $method $uri, Accept: $accept" if $fault;
    if (!$answer->{complete} || lc($answer->{headers}{connection} || '') eq 'close') {
        $connection->close;
        undef $connection;
    }
}
$connection->close if $connection;
is_deeply([ @strange[0 .. ($#strange > 4 ? 4 : $#strange)] ], [],
    'whatever is asked of the status has an answer that can be read');

# Data that is not HTTP
for (1 .. 200) {
    my $noise = rand() < 0.5 ? bytes(3000) : mutated("GET /cpu?format=json HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n");
    my $connection = $t->connect('http');
    $connection->send($noise);
    shutdown $connection->socket, 1;
    $connection->read_all(2);
    $connection->close;
}
is_deeply([ $t->workers ], \@workers, 'no worker has died of it');
figure('random requests to the status endpoint, by status', join ', ',
    map { "$answers{$_} times $_" } sort keys %answers);
figure('answers that could not be read', scalar @strange);
figure('keys of random bytes that were not found again', @lost . ' of ' . keys %key);
$t->done(no_totals => 1, more => 1);

#
# The configuration
#

# Each directive of the interface, and its context. Sizes stay small, since `nginx -t` makes the zones.
my %valid = (
    request_cpu_zone => [ http => [ '$host', '$host$uri', 'a-$server_name', '' ],
        [ 'zone=b:1m', 'zone=b:64k', 'zone=b:65536', 'zone=b:', 'zone=:1m', 'zone=b:-1',
            'zone=b:18446744073709551615k', 'zone=a:1m' ] ],
    request_cpu => [ server => [ 'zone=a', 'off', 'zone=', 'zone=nope' ], [ '', 'zone=a', 'off' ] ],
    request_cpu_clock => [ http => [ 'thread', 'hybrid', 'sundial' ],
        [ '', map { "max_error=$_" } qw(20us 1us 10ms 0 1us1 999999999999999999999us -1us 10 ms 1.5us) ] ],
    request_cpu_status => [ location => [ '', 'format=json', 'format=auto', 'format=html', 'detail=low',
        'detail=full' ], [ '', 'format=prometheus', 'detail=low', 'detail=' ] ],
    request_cpu_log => [ http => [ '{{dir}}/traffic' ], [ 'zone=a', 'zone=nope' ],
        [ '', map { "interval=$_" } qw(1s 60s 0 500ms 99999999999999999999d 1m30s s) ] ],
    request_cpu_limit => [ server => [ 'zone=a', 'zone=nope' ],
        [ map { "cores=$_" } qw(1 0.5 0 -1 1e9 .5 99999999999999999999 0.0000000001 nan) ],
        [ '', map { "burst=$_" } qw(1s 0 10ms 99999999999999999999d) ],
        [ '', map { "status=$_" } qw(503 429 200 600 0 -1 99999999999) ], [ '', 'dry_run' ] ],
    request_cpu_limit_log_level => [ server => [ 'info', 'notice', 'warn', 'error', 'debug', '' ] ],
);

sub quoted {
    my ($value) = @_;
    # NGINX reads "" as an argument, and a backslash before a quote. A NUL byte would end a file name
    $value =~ s/\0//g;
    $value =~ s/(["\\])/\\$1/g;
    return qq{"$value"};
}

my (%exits, @crashed, @mute, @unnamed);
my $conf = Test::RequestCpu->new;
for my $n (1 .. $configurations) {
    my $name = one_of(sort keys %valid);
    my ($where, @choices) = @{ $valid{$name} };
    my @values = grep { length } map { one_of(@$_) } @choices;
    if (rand() < 0.5 && @values) {
        # paths are not changed, so that no file is made in unknown places
        my $at = int rand @values;
        $values[$at] = mutated($values[$at]) unless $values[$at] =~ /\{\{dir/;
        # the result could be a valid, large size
        $values[$at] =~ s/(\d{5,})([kKmMgG])/$1x$2/;
        $values[$at] =~ s/[gG]$/k/;
        $values[$at] =~ s/state=//g;
    }
    push @values, mutated('foo=bar') if rand() < 0.05;
    my $directive = join(' ', $name, map { /\{\{dir/ ? $_ : quoted($_) } @values) . ";\n";
    my ($http, $server, $location) = map { $where eq $_ ? $directive : '' } qw(http server location);
    unlink $conf->dir . '/error.log';
    my ($exit, $output) = $conf->try_config(raw =>
        "load_module {{module}};\nevents { }\nhttp {\naccess_log off;\nrequest_cpu_zone \$host zone=a:64k;\n"
        . "${http}server {\n${server}location / {\n$location}\n}\n}\n");
    $exits{$exit}++;
    push @crashed, "exit $exit: $directive$output" if $exit != 0 && $exit != 1 || $output =~ /panicked|Sanitizer/;
    push @mute, "$directive$output" if $exit == 1 && $output !~ /\[emerg\]/;
    # NGINX's own parser names the line if it finds no directive; it writes only 2,048 bytes of a message
    push @unnamed, "$directive$output" if $exit == 1 && length $output < 2000
        && $output !~ /\[emerg\].*(?:request_cpu|unknown ".*" variable|invalid variable name|unexpected|not terminated|too long parameter|nginx\.conf:\d+)/s;
}
is_deeply(\@crashed, [], 'a configuration of any bytes is accepted or refused');
is_deeply(\@mute, [], 'and a refusal has a reason');
is_deeply([ @unnamed[0 .. ($#unnamed > 4 ? 4 : $#unnamed)] ], [], 'that says where');
figure('random configurations accepted, refused, crashed', join ', ', $exits{0} || 0, $exits{1} || 0, scalar @crashed);

done_testing();
