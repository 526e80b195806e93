# The status in Prometheus' format.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new->need('proxy');
$t->html('a.txt', "plain\n");
$t->start(main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu_zone \$uri zone=uris:1m;
    request_cpu zone=hosts zone=uris;
    proxy_cache_path {{dir}}/cache keys_zone=cache:1m;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /gzip { request_cpu_status; request_cpu off; gzip on; gzip_min_length 1;
            gzip_types text/plain application/json; }
        location /cached/ { proxy_pass http://127.0.0.1:{{port:origin}}/; proxy_cache cache; proxy_cache_valid 1h; }
    }
    server {
        listen 127.0.0.1:{{port:origin}};
        request_cpu off;
        access_log off;
        location / { }
    }
EOC

$t->get('/a.txt', host => 'one.test') for 1 .. 7;
$t->get('/none', host => 'one.test');
$t->get('/cached/a.txt', host => 'two.test') for 1 .. 3;
$t->account_with('hosts', 'two.test', 3);
$t->account_with('hosts', 'one.test', 8);

# types are named without their parameters
for my $format (qw(prometheus json)) {
    my $answer = $t->get("/gzip?format=$format", headers => { 'Accept-Encoding' => 'gzip' });
    is($answer->{headers}{'content-encoding'}, 'gzip', "$format: compressed where gzip_types names its type");
}

my ($samples, $text) = $t->prometheus;
my $json = $t->status;

sub pick {
    my ($name, %label) = @_;
    return map { $_->[2] } grep {
        my $sample = $_;
        $sample->[0] eq $name && !grep { !defined $sample->[1]{$_} || $sample->[1]{$_} ne $label{$_} } keys %label
    } @$samples;
}

# Every name of the interface is there once, with help and type
my %type = (
    nginx_request_cpu_seconds_total => 'counter', nginx_request_cpu_requests_total => 'counter',
        nginx_request_cpu_wakeups_total => 'counter',
    nginx_request_cpu_sent_bytes_total => 'counter', nginx_request_cpu_received_bytes_total => 'counter',
    nginx_request_cpu_in_flight => 'gauge',
    nginx_request_cpu_cache_seconds_total => 'counter', nginx_request_cpu_cache_requests_total => 'counter',
    nginx_request_cpu_per_request_seconds => 'histogram', nginx_request_cpu_worker_seconds_total => 'counter',
    nginx_request_cpu_zone_accounts => 'gauge', nginx_request_cpu_zone_capacity => 'gauge',
    nginx_request_cpu_zone_overflowed_total => 'counter', nginx_request_cpu_info => 'gauge',
);
for my $name (sort keys %type) {
    is(scalar(my @help = $text =~ /^# HELP \Q$name\E \S/mg), 1, "$name has one help text");
    is(scalar(my @type = $text =~ /^# TYPE \Q$name\E $type{$name}$/mg), 1, "$name is a $type{$name}");
    cmp_ok(scalar(grep { $_->[0] =~ /^\Q$name\E(?:_bucket|_sum|_count)?$/ } @$samples), '>', 0, "$name has samples");
}
my %known = map { $_ => 1 } keys %type, map { "nginx_request_cpu_per_request_seconds_$_" } qw(bucket sum count);
is_deeply([ grep { !/^nginx_request_cpu_/ } map { $_->[0] } @$samples ], [], 'all names have the prefix of the module');
is(scalar(grep { $_->[2] !~ /^(?:\d+(?:\.\d+)?(?:e[-+]?\d+)?)$/i } @$samples), 0,
    'all values are numbers that are not negative');
my %count;
for my $sample (@$samples) {
    $count{ join "\0", $sample->[0], map { "$_=$sample->[1]{$_}" } sort keys %{ $sample->[1] } }++;
}
is(scalar(grep { $_ > 1 } values %count), 0, 'no sample is there twice');
like($text, qr/\n\z/, 'the text ends with a newline');

# The same figures as in JSON, seconds instead of nanoseconds
for my $host (qw(one.test two.test)) {
    my $account = $json->{zones}{hosts}{keys}{$host};
    my %label = (zone => 'hosts', key => $host);
    is((pick('nginx_request_cpu_requests_total', %label, class => $_))[0], $account->{responses}{$_},
        "$host: requests of class $_")
        for grep { $account->{responses}{$_} } qw(1xx 2xx 3xx 4xx 5xx);
    is(sprintf('%.9f', (pick('nginx_request_cpu_seconds_total', %label))[0]),
        sprintf('%.9f', $account->{cpu_ns} / 1e9), "$host: CPU seconds");
    is((pick("nginx_request_cpu_${_}_total", %label))[0], $account->{$_}, "$host: $_")
        for qw(wakeups sent_bytes received_bytes);
    is((pick('nginx_request_cpu_in_flight', %label))[0], 0, "$host: in flight");
    my @buckets = map { [ $_->[1]{le}, $_->[2] ] } grep {
        $_->[0] eq 'nginx_request_cpu_per_request_seconds_bucket' && $_->[1]{zone} eq 'hosts' && $_->[1]{key} eq $host
    } @$samples;
    is($buckets[-1][0], '+Inf', "$host: the histogram ends with +Inf");
    is($buckets[-1][1], $account->{requests}, "$host: which has every request");
    is((pick('nginx_request_cpu_per_request_seconds_count', %label))[0], $account->{requests},
        "$host: as its count has");
    is_deeply([ map { $_->[1] } @buckets ], [ sort { $a <=> $b } map { $_->[1] } @buckets ],
        "$host: its buckets are cumulative");
    my $sum = (pick('nginx_request_cpu_per_request_seconds_sum', %label))[0];
    ok($sum > 0 && $sum <= $account->{cpu_ns} / 1e9, "$host: its sum is the CPU of requests");
    for ([ by_cache_status => 'cache', 'status' ], [ by_connection_order => 'order', 'order' ],
        [ by_response_size => 'size', 'size' ]) {
        my ($member, $family, $by) = @$_;
        my %seen = map { $_->[1]{$by} => 1 }
            grep { $_->[0] eq "nginx_request_cpu_${family}_requests_total" && $_->[1]{key} eq $host } @$samples;
        is_deeply([ sort keys %seen ], [ sort keys %{ $account->{$member} } ],
            "$host: $family, the same classes as in JSON");
        for my $class (keys %{ $account->{$member} }) {
            is((pick("nginx_request_cpu_${family}_requests_total", %label, $by => $class))[0],
                $account->{$member}{$class}{requests}, "$host: requests, $family $class");
            is(sprintf('%.9f', (pick("nginx_request_cpu_${family}_seconds_total", %label, $by => $class))[0]),
                sprintf('%.9f', $account->{$member}{$class}{cpu_ns} / 1e9), "$host: CPU, $family $class");
        }
    }
}
is_deeply([ sort keys %{ $json->{zones}{hosts}{keys}{'two.test'}{by_cache_status} } ], [qw(HIT MISS)],
    'a cache took part');

for my $worker (@{ $json->{workers} }) {
    my @owner = map { $_->[1]{owner} }
        grep { $_->[0] eq 'nginx_request_cpu_worker_seconds_total' && $_->[1]{worker} eq $worker->{worker} } @$samples;
    is_deeply([ sort @owner ], [qw(charged loop no_request other pool_threads)],
        "worker $worker->{worker}: seconds by owner");
}
is((pick('nginx_request_cpu_zone_accounts', zone => 'hosts'))[0], 2, 'accounts of a zone');
is((pick('nginx_request_cpu_zone_capacity', zone => 'hosts'))[0], $json->{zones}{hosts}{capacity},
    'capacity of a zone');
is((pick('nginx_request_cpu_zone_overflowed_total', zone => 'hosts'))[0], 0, 'overflows of a zone');
my ($info) = grep { $_->[0] eq 'nginx_request_cpu_info' } @$samples;
is($info->[2], 1, 'the info metric is 1');
is($info->[1]{nginx_version}, $t->version, 'with the version of NGINX');
is($info->[1]{version}, $json->{version}, 'the version of the module');
is($info->[1]{clock}, 'hybrid', 'and the clock');

# Filters
my ($filtered) = $t->prometheus('zone=uris&key=/a.txt');
is_deeply([ grep { $_->[1]{key} ne '/a.txt' || $_->[1]{zone} ne 'uris' } grep { exists $_->[1]{key} } @$filtered ], [],
    '?zone= and ?key= restrict the answer');
cmp_ok(scalar(grep { exists $_->[1]{key} } @$filtered), '>', 0, 'and leave something');

# Counters only grow
$t->get('/a.txt', host => 'one.test') for 1 .. 5;
$t->account_with('hosts', 'one.test', 13);
my ($later) = $t->prometheus;
my %later = map { my $s = $_;
    (join("\0", $s->[0], map { "$_=$s->[1]{$_}" } sort keys %{ $s->[1] }) => $s->[2]) } @$later;
my @shrunk = grep {
    my $s = $_;
    my $id = join "\0", $s->[0], map { "$_=$s->[1]{$_}" } sort keys %{ $s->[1] };
    $s->[0] =~ /_total$|_bucket$|_count$|_sum$/ && !(defined $later{$id} && $later{$id} >= $s->[2]);
} @$samples;
is_deeply(\@shrunk, [], 'counters do not shrink, and do not vanish');

SKIP: {
    skip('promtool is not here', 2) if system('promtool --version >/dev/null 2>&1');
    my ($status, $output) = run_command('promtool', 'check', 'metrics', { input => $text });
    is($status, 0, 'promtool accepts the text') or diag($output);
    is($output, '', 'and has nothing to say about it');
}

$t->done;
