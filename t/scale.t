# Autoscaling: the series that nginx-conf/autoscaling uses exist. And a real Prometheus with rules-scale.yml, which
# reads a real NGINX, wants as many instances as open requests need: more, in panic, fewer, and none.
#
# Only the times of Prometheus run four times as fast: an evaluation each 500 ms, 15 s of panic, 7.5 s of grace. The
# windows are the module's own, of 6 s and of 60 to 70 s, so the test waits for scaling to zero.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use CPAN::Meta::YAML ();
use File::Temp ();
use IO::Socket::INET;
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Prometheus;
use Time::HiRes qw(sleep time);

BEGIN {
    plan(skip_all => 'prometheus is not here (package prometheus)')
        unless Test::RequestCpu::Prometheus->command('prometheus');
}
my $times = 4;
alarm 200;

#
# The files
#

my $folder = "$FindBin::Bin/../nginx-conf/autoscaling";
my %file = map { m{([^/]+)$} => read_yaml($_) } glob "$folder/*.yaml";
sub read_yaml {
    my ($name) = @_;
    my $read = CPAN::Meta::YAML->read_string(Test::RequestCpu->slurp($name))
        or die "$name: " . CPAN::Meta::YAML->errstr . "\n";
    return $read->[0];
}
is_deeply([ sort keys %file ],
    [qw(hpa-external-metrics.yaml keda-metrics-api.yaml keda-prometheus.yaml prometheus-adapter.yaml)], 'four files');
my @triggers = map { @{ $file{"keda-$_.yaml"}{spec}{triggers} } } qw(prometheus metrics-api);

# KEDA's schema says of a trigger's metadata only that they are text. These are the names in its documentation of both
# scalers.
my %known = (
    prometheus    => [qw(serverAddress query threshold activationThreshold namespace customHeaders ignoreNullValues queryParameters unsafeSsl timeout)],
    'metrics-api' => [qw(url format valueLocation targetValue activationTargetValue unsafeSsl)],
);
for my $trigger (@triggers) {
    my %name = map { $_ => 1 } @{ $known{ $trigger->{type} } || [] };
    is_deeply([ grep { !$name{$_} } sort keys %{ $trigger->{metadata} } ], [],
        "$trigger->{type}: its metadata has names that KEDA knows");
    is($trigger->{metricType}, 'AverageValue', 'and its value is for all instances together');
}
my ($metric) = @{ $file{'hpa-external-metrics.yaml'}{spec}{metrics} };
my %adapter = map { $_->{name}{as} => $_ } @{ $file{'prometheus-adapter.yaml'}{externalRules} };
ok($adapter{ $metric->{external}{metric}{name} }, 'the HPA asks for a metric that the adapter has');
my %recorded = recorded_names();
my @names = map { /\b([a-z_]+:nginx_request_cpu_\w+:\w+)/g } map { Test::RequestCpu->slurp("$folder/$_") }
    sort keys %file;
is_deeply([ grep { !$recorded{$_} } @names ], [], 'the series that they query are recorded');
for my $rule (values %adapter) {
    ok('zone_key:nginx_request_cpu_scale:wanted' =~ /$rule->{name}{matches}/,
        "the adapter finds the name of $rule->{name}{as}");
}
is($_->{spec}{maxReplicaCount}, 20, 'as many instances as "max" of scale.yml')
    for @file{qw(keda-prometheus.yaml keda-metrics-api.yaml)};

# A path of gjson, as far as this test uses it: names between dots; a backslash removes the meaning of the next
# character.
sub walk {
    my ($value, $path) = @_;
    for my $name ($path =~ /\G((?:[^\\.]|\\.)+)(?:\.|\z)/g) {
        die "not of the gjson that is understood here: $path\n" if $name =~ /(?<!\\)[*?#|@!{}\[\]()"]/;
        (my $plain = $name) =~ s/\\(.)/$1/g;
        return unless ref $value eq 'HASH';
        $value = $value->{$plain};
    }
    return $value;
}
is(walk({ 'a.b' => { '6s' => 3 } }, 'a\.b.6s'), 3, 'paths are walked as gjson does: a dot that is escaped');
is(walk({ 'a.b' => { '6s' => 3 } }, 'a.b.6s'), undef, 'and one that is not');

#
# Knative's algorithm in another form: as a machine with a state, like Scale() of its
# pkg/autoscaler/scaling/autoscaler.go. With random loads, the machine and the rules agree at every tick.

my $seed = $ENV{TEST_SEED} || time % 1_000_000;
srand $seed;
sub max { my ($most, @others) = @_; for (@others) { $most = $_ if $_ > $most } return $most }
sub min { my ($least, @others) = @_; for (@others) { $least = $_ if $_ < $least } return $least }
sub ceiling { my ($n) = @_; return int($n) + ($n > int $n) }

# The load of a domain, its wanted instances, and the scale that Knative would choose at each tick. Wanted instances
# are ready some ticks later.
sub machine {
    my ($ticks) = @_;
    my %wish = (target => 0.5 + int rand 20, up => 1 + int(1 + rand 30) / 10, down => 1 + int(1 + rand 30) / 10,
        min => rand() < 0.3 ? int rand 4 : 0, max => rand() < 0.3 ? 1 + int rand 12 : 0);
    my $delay = 1 + int rand 6;
    my (@stable, @panic, @ready, @wanted);
    my ($panic_since, $held, $idle_since, $load) = (undef, 0, undef, 0);
    my @coming = (int rand 4) x $delay;
    for my $tick (0 .. $ticks - 1) {
        my $now = 2 * $tick;
        # calm, bursts, and no load for longer than the grace
        if ($tick % 25 == 0) { $load = (0, 0, 5, 20, 150)[rand 5] }
        push @stable, $load ? int(rand(2 * $load) * 100) / 100 : 0;
        push @panic, $load ? int(rand(3 * $load) * 100) / 100 : 0;
        push @ready, shift @coming;
        my $ready = max(1, $ready[-1]);
        my ($highest, $lowest) = (ceiling($wish{up} * $ready), int($ready / $wish{down}));
        my ($by_stable, $by_panic) = map { ceiling($_ / $wish{target}) } $stable[-1], $panic[-1];
        my ($stable_step, $panic_step) = map { min(max($_, $lowest), $highest) } $by_stable, $by_panic;
        if    ($by_panic / $ready >= 2)                          { $panic_since = $now }
        elsif (defined $panic_since && $panic_since + 60 < $now) { ($panic_since, $held) = (undef, 0) }
        my $desired = $stable_step;
        if (defined $panic_since) { $held = max($held, $stable_step, $panic_step); $desired = $held }
        if    ($desired < $wish{min})                { $desired = $wish{min} }
        elsif ($wish{max} && $desired > $wish{max})  { $desired = $wish{max} }
        $idle_since = $desired ? undef : defined $idle_since ? $idle_since : $now;
        push @wanted, $desired || ($now - $idle_since >= 30 ? 0 : min(1, $ready[-1]));
        push @coming, $wanted[-1];
    }
    return { wish => \%wish, stable => \@stable, panic => \@panic, ready => \@ready, wanted => \@wanted };
}
my $ticks = 250;
my @machines = map { machine($ticks) } 1 .. 8;
my %reached = map { my $what = $_;
    $what => scalar(grep { my $m = $_;
        grep { $what eq 'zero' ? $_ == 0 : $_ > 5 } @{ $m->{wanted} } } @machines) } qw(zero many);
my ($series, $tests) = ('', '');
for my $n (0 .. $#machines) {
    my $m = $machines[$n];
    my $each = sub { my ($name, $labels, @values) = @_;
        $series .= "      - { series: '$name\{zone=\"z\", key=\"k$n\"$labels}', values: '@values' }\n" };
    $each->('nginx_request_cpu_window_in_flight', ', job="nginx-cpu-scale", instance="a", window="60s"',
        @{ $m->{stable} });
    $each->('nginx_request_cpu_window_in_flight', ', job="nginx-cpu-scale", instance="a", window="6s"',
        @{ $m->{panic} });
    $each->('zone_key_signal:nginx_request_cpu_scale:target', ', signal="in_flight"', "$m->{wish}{target}x$ticks");
    $each->("zone_key:nginx_request_cpu_scale:${_}_rate", '', "$m->{wish}{$_}x$ticks") for qw(up down);
    $each->("zone_key:nginx_request_cpu_scale:$_", '', "$m->{wish}{$_}x$ticks") for qw(min max);
    $each->('zone_key:nginx_request_cpu_scale:ready', '', @{ $m->{ready} });
}
for my $tick (0 .. $ticks - 1) {
    $tests .= sprintf "      - { expr: 'zone_key:nginx_request_cpu_scale:wanted', eval_time: %ds, exp_samples: [ %s ] }\n", 2 * $tick,
        join ', ', map { "{ labels: 'zone_key:nginx_request_cpu_scale:wanted{zone=\"z\", key=\"k$_\"}', value: $machines[$_]{wanted}[$tick] }" } 0 .. $#machines;
}
my $dir = File::Temp->newdir('request-cpu-XXXXXX', TMPDIR => 1);
Test::RequestCpu->write_file("$dir/rules-scale.yml", shipped('rules-scale.yml'));
Test::RequestCpu->write_file("$dir/test.yml", <<"EOT");
rule_files: [rules-scale.yml]
evaluation_interval: 2s
tests:
  - interval: 2s
    input_series:
$series
    promql_expr_test:
$tests
EOT
my ($agreed, $said) = run_command('promtool', 'test', 'rules', "$dir/test.yml", { timeout => 60 });
is($agreed, 0, "the rules want what Knative's algorithm wants, at $ticks ticks of " . @machines
    . " domains (TEST_SEED=$seed)") or diag(substr $said, 0, 2000);
cmp_ok($reached{$_}, '>', 0, "with $_ instances now and then") for qw(zero many);

#
# NGINX in front of an upstream that never answers, and Prometheus

my $t = Test::RequestCpu->new->need('proxy');
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 100) or die "no socket\n";
my $silent_port = $silent->sockport;
$t->start(main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$host zone=domains:1m;
    request_cpu zone=domains;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 204; }
        location = /wait { proxy_pass http://127.0.0.1:$silent_port; proxy_read_timeout 300s; }
    }
EOC

# Divides durations, except those in labels: they are the module's.
sub hastened {
    my ($text) = @_;
    $text = faster($text, $times);
    $text =~ s{(window=")(\d+)ms"}{ $1 . $2 * $times / 1000 . 's"' }ge;
    return $text;
}
my $config = uncommented(shipped('prometheus.yml'));
$config =~ s/^remote_write:.*//ms;
my $target = '127.0.0.1:' . $t->port('status');
$config =~ s/edge-1\.example:8099/$target/;
$config =~ s/^ +- edge-\d\.example:8099\n//mg;
my $rules = hastened(shipped('rules-scale.yml'));
like($rules, qr/interval: 500ms.*window="60s".*window="6s"/s,
    'the rules look each 500 ms, at windows of 60 and of 6 s');
like($rules, qr/\[15250ms\].*\[7750ms\].*offset 7500ms/s, 'and remember 15 s, and 7.5 s');
my $wishes = join '', map {
    my ($name, $value, $labels) = @$_;
    "      - { record: '$name', expr: vector($value), labels: { zone: domains$labels } }\n";
} [ 'zone_key_signal:nginx_request_cpu_scale:target', 2.3, ', key: api.example, signal: in_flight' ],
    [ 'zone_key_signal:nginx_request_cpu_scale:target', 1000, ', key: api.example, signal: requests_per_second' ],
    [ 'zone_key_signal:nginx_request_cpu_scale:target', 0.9, ', signal: in_flight' ],
    [ 'zone_key:nginx_request_cpu_scale:min', 2, '' ],
    [ 'zone_key:nginx_request_cpu_scale:max', 4, '' ];
my %files = map { $_ => hastened(shipped($_)) } grep { /^(?:rules-|limits|alerts)/ } shipped_files();
$files{'scale.yml'} = "groups:\n  - name: wishes\n    interval: 500ms\n    rules:\n$wishes";
my $p = Test::RequestCpu::Prometheus->prometheus(dir => $t->dir, config => hastened($config), files => \%files);

my $scale = 'zone_key:nginx_request_cpu_scale';
sub of {
    my ($name, $key) = @_;
    my ($found) = values %{ $p->values("$scale:$name\{key=\"$key\"}", undef, 'zone') };
    return $found;
}
sub wanted {
    my ($key, $count, $seconds) = @_;
    return wait_until($seconds,
        sub { my $wanted = of('wanted', $key); sleep 0.1; return defined $wanted && $wanted == $count });
}
# [ time, value ] of all recorded samples
sub history {
    my ($name) = @_;
    my ($series) = @{ $p->query("$scale:$name\{key=\"api.example\"}[5m]") };
    return @$series[1 .. $#$series];
}

ok(wanted('api.example', 0, 20), 'a domain without requests wants no instance') or diag($p->log);
ok(wanted('', 2, 5), 'and the servers themselves the fewest that were allowed');

#
# Ten requests
#

my @open = map { my $c = $t->connect('http'); $c->send("GET /wait HTTP/1.1\r\nHost: api.example\r\n\r\n"); $c } 1 .. 10;
my $opened = time;
ok(wanted('api.example', 5, 15), 'ten open requests by 2.3 want five instances')
    or diag(explain($p->query("{__name__=~\"$scale.*\"}")));
note(sprintf 'five wanted after %.1f s', time - $opened);
cmp_ok(time - $opened, '<', 12, 'as soon as they fill the panic window');
is(of('panicking', 'api.example'), 1, 'which is a panic');
ok(wait_until(5, sub {
    my ($load) = values %{
        $p->values('instance_zone_signal_window:nginx_request_cpu_load:sum{signal="in_flight", window="6s"}') };
            return abs($load - 10) < 0.2 }),
    'the server has ten requests in flight');
ok(wanted('', 4, 10), 'the servers themselves would be more than are allowed');

# the figures for an autoscaler at an instant whose samples are complete
my $at = time - 0.1;
my ($wanted_at) = values %{ $p->values("$scale:wanted{key=\"api.example\"}", $at, 'zone') };
cmp_ok($wanted_at, '>=', 5, 'nothing is taken away while in panic');
for my $trigger (@triggers) {
    my $name = "KEDA's $trigger->{type}";
    if ($trigger->{type} eq 'prometheus') {
        is_deeply([ map { $_->[1] } @{ $p->query($trigger->{metadata}{query}, $at) } ], [$wanted_at],
            "$name: one figure, of what is wanted");
        next;
    }
    my ($query) = $trigger->{metadata}{url} =~ m{^http://[^/]+/cpu\?(.*)$};
    my $status = JSON::PP->new->utf8->decode($t->get("/?$query", port => 'status')->{body});
    my $value = walk($status, $trigger->{metadata}{valueLocation});
    my ($window) = $trigger->{metadata}{valueLocation} =~ /\.windows\.(\d+s)\.in_flight$/;
    ok(defined $value && $value > 0.5 && $value < 11.7, "$name: its path leads to a number") or diag(explain($status));
    cmp_ok($value, '>', 8.3, "and that is ten in the window of $window") if $window eq '6s';
    is($t->get("/?$query.nobody", port => 'status')->{status}, 404,
        'before the first request for a domain the answer is 404');
}
for my $rule (values %adapter) {
    my %selector = %{ $metric->{external}{metric}{selector}{matchLabels} };
    delete $selector{key} if $rule->{name}{as} =~ /servers/;
    my $matchers = join ',', map { qq{$_="$selector{$_}"} } sort keys %selector;
    my $query = $rule->{metricsQuery};
    $query =~ s/<<\.Series>>/$scale:wanted/;
    (my $all = $query) =~ s/<<\.LabelMatchers>>//;
    $query =~ s/<<\.LabelMatchers>>/$matchers/;
    is_deeply([ map { $_->[1] } @{ $p->query($query, $at) } ], [ $selector{key} ? $wanted_at : 4 ],
        "prometheus-adapter: one figure of $rule->{name}{as}");
    cmp_ok(scalar @{ $p->query($all) }, '>', 0, 'and some without a selector');
    cmp_ok(scalar @{ $p->query($rule->{seriesQuery}) }, '>', 0, 'and series to be found');
}
{
    my %family = map { $_->[0] => 1 } @{ ($t->prometheus)[0] };
    my %asked = map { $_ => 1 } shipped('rules-scale.yml') =~ /(?<![:\w])(nginx_request_cpu_\w+)\b(?!:)/g;
    is_deeply([ grep { !$family{$_} } sort keys %asked ], [], 'the module has every metric that the rules ask for');
    cmp_ok(scalar keys %asked, '>=', 4, 'which are some');
}

#
# No requests

$_->close for @open;
my $closed = time;
ok(wait_until(30, sub { sleep 0.1; of('panicking', 'api.example') == 0 }), 'panic ends');
my $calm = time;
ok(wanted('api.example', 1, 10), 'one instance is left, while there are requests in the stable window');
my (@wanted, @panic);
ok(wanted('', 2, 30), 'the servers themselves are as few as allowed again');

my $zero = wanted('api.example', 0, 100);
ok($zero, 'and none after it');
my $took = time - $closed;
note(sprintf 'none wanted %.1f s after the last was closed', $took);
ok($took > 64 && $took < 85, 'which takes the 60 to 70 s of the stable window, and 7.5 s') or diag($took);
@wanted = history('wanted');
@panic = history('panicking');

# the samples meanwhile
my %panic = map { sprintf('%.3f', $_->[0]) => $_->[1] } @panic;
is(scalar(grep { !exists $panic{ sprintf '%.3f', $_->[0] } } @wanted), 0, 'both are recorded for the same instants');
my ($falls, $most, $before) = (0, 0, undef);
for (@wanted) {
    my ($at, $count) = @$_;
    $most = $count if $count > $most;
    $falls++ if defined $before && $count < $before && $panic{ sprintf '%.3f', $at };
    $before = $count;
}
# a late worker adds a second to the next one: up to a sixth more
ok($most == 5 || $most == 6, 'hardly ever more than five were wanted') or diag($most);
is($falls, 0, 'and never fewer than before while in panic');
cmp_ok(scalar(grep { $_->[1] } @panic), '>=', 25, 'which lasted at least as long as it has to');
my @desired = history('desired');
my $idle;
for (reverse @desired) { last if $_->[1] > 0; $idle = $_->[0] }
my ($gone) = grep { $_->[1] == 0 && $_->[0] > $calm } @wanted;
my $grace = $gone && $idle ? $gone->[0] - $idle : 0;
ok($grace > 7.4 && $grace < 9, 'the last instance is kept for 7.5 s') or diag($grace);

my $c = $t->connect('http');
is($c->get('/', host => 'api.example')->{status}, 204, 'a request');
ok(wanted('api.example', 1, 10), 'wants an instance again');

my @faults = map { "$_->{name}: $_->{lastError}" } grep { $_->{health} eq 'err' }
    map { @{ $_->{rules} } } @{ $p->get('/api/v1/rules')->{groups} };
is_deeply(\@faults, [], 'no rule has an error');

#
# The simulation
#

my ($status, $output) = run_command("$FindBin::Bin/../tools/simulate", '--minutes', 7, { timeout => 60 });
is($status, 0, 'tools/simulate replays the first minutes') or diag($output);
like($output, qr/^small service, probe counted +\S+ +\S+ +\d+ +1 +\d +1 /m,
    'a probe that is counted keeps the instance alive: it is started once');
my ($none) = $output =~ /^small service, probe not counted +\S+ +\S+ +\d+ +1 +(\d+) +1 /m;
# requests until 3:57, then 60 to 70 s and 30 s more
ok(defined $none && $none > 70 && $none < 100, 'one that is not does not: none from about 5:30 to the end')
    or diag($output);

$p->stop;
$t->done;
