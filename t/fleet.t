# A fleet: a real Prometheus with the files of nginx-conf/prometheus reads three NGINX servers under different load,
# and writes to VictoriaMetrics. The test compares the recorded figures with those of the servers.
#
# Time runs fifteen times as fast: every duration of the shipped files is divided by 15. So a scrape is due each
# second, and a rate over 5 minutes is a rate over 20 seconds. Otherwise, only the targets are changed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Prometheus;
use Time::HiRes qw(sleep time);

BEGIN {
    plan(skip_all => 'prometheus is not here (package prometheus)')
        unless Test::RequestCpu::Prometheus->command('prometheus');
}
my $times = 15;
my $window = 300 / $times;

#
# Three servers
#

my $probe = Test::RequestCpu->new->need('proxy', 'map');
my $tls = $probe->has('http_ssl') && Test::RequestCpu::Prometheus->command('openssl')
    && Test::RequestCpu::Prometheus->command('h2load');
if ($tls) {
    my ($status, $output) = run_command('openssl', 'req', '-x509', '-nodes', '-newkey', 'ec', '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-days', 2, '-subj', '/CN=test', '-keyout', $probe->dir . '/key.pem', '-out', $probe->dir . '/cert.pem');
    $tls = 0 if $status;
    diag($output) if $status;
}

sub server {
    my $t = Test::RequestCpu->new;
    $t->html('a.txt', 'x' x 2000);
    $t->html('large.txt', 'x' x 50_000);
    my $listen_tls = $tls
        ? "listen 127.0.0.1:{{port:tls}} ssl; ssl_certificate @{[$probe->dir]}/cert.pem; ssl_certificate_key @{[$probe->dir]}/key.pem;" : '';
    my $burn = burn_rules(2);
    # The key of h2load's requests is not their Host, which includes a port. Since 1.29.3, NGINX refuses a Host with a
    # backslash or a quotation mark.
    $t->start(main => 'worker_processes 2;', log => 0, http => <<"EOC");
    request_cpu_zone \$domain zone=domains:1m;
    request_cpu_zone \$uri zone=uris:1m;
    request_cpu zone=domains zone=uris;
    map \$host \$domain { default \$host; 127.0.0.1 tls.test; odd.test 'back\\\\slash"quote.test'; }
    proxy_cache_path {{dir}}/cache keys_zone=cache:1m;
    server {
        listen 127.0.0.1:{{port:http}};
        $listen_tls
        location / { request_cpu_limit zone=domains cores=1000; }
        location = /burn { $burn return 204; }
        location = /low { request_cpu_status format=prometheus detail=low; request_cpu off; }
        location /cached/ { proxy_pass http://127.0.0.1:{{port:origin}}/; proxy_cache cache; proxy_cache_valid 1h; }
    }
    server {
        listen 127.0.0.1:{{port:origin}};
        request_cpu off;
        location / { }
    }
EOC
    return $t;
}
my @servers = map { server() } 1 .. 3;
my @nodes = map { '127.0.0.1:' . $_->port('status') } @servers;

# Sends one request of each kind, so that all series exist: the value of a counter when it is first seen is in no
# rate.
sub each_kind {
    my ($t) = @_;
    for my $host ('a.test', 'b.test', 'odd.test') {
        my $c = $t->connect('http');
        $c->get('/a.txt', host => $host) for 1 .. 4;
        $c->get('/large.txt', host => $host);
        $c->get('/none', host => $host);
        $c->get('/cached/a.txt', host => $host) for 1 .. 2;
        $c->get('/burn?x=' . burn_text(12), host => $host);
    }
    run_command('h2load', '-n', 8, '-c', 4, '--npn-list=http/1.1', 'https://127.0.0.1:' . $t->port('tls') . '/a.txt')
        if $tls;
}

# Sends load for a while; the amount differs between servers and between domains. A connection that a reload or a
# killed worker closes is opened again.
sub load {
    my ($t, $seconds, $heavy) = @_;
    my ($end, $answers) = (time + $seconds, 0);
    while (time < $end) {
        eval {
            my $c = $t->connect('http', timeout => 20);
            for (1 .. 5) {
                $answers += $c->get($_->[1], host => $_->[0])->{status} < 500 for
                    [ 'a.test', '/burn?x=' . burn_text(12 + $heavy) ], ([ 'b.test', '/large.txt' ]) x $heavy,
                    [ 'b.test', '/cached/a.txt' ], [ 'odd.test', '/none' ];
            }
        };
        sleep 0.05;
    }
    return $answers;
}

each_kind($_) for @servers;

#
# Prometheus, and VictoriaMetrics if it is here
#

my $store;
$store = Test::RequestCpu::Prometheus->victoria_metrics(dir => $probe->dir)
    if Test::RequestCpu::Prometheus->command('victoria-metrics');

my $config = shipped('prometheus.yml');
# everything of remote write, except the choice of the written series
$config =~ s/^(#remote_write:.*?\n)(?= *#write_relabel_configs)/uncommented($1)/mes or die 'no remote_write';
$config =~ s{http://127\.0\.0\.1:8428/}{$store ? $store->url('/') : 'http://127.0.0.1:1/'}e
    or die 'no address of remote_write';
$config =~ s/^remote_write:.*//ms unless $store;
my $target = 0;
$config =~ s/edge-\d+\.example:8099/$nodes[$target++]/g;
is($target, 3, 'the shipped configuration has three targets, which are replaced');
my %rules = map { $_ => faster(shipped($_), $times) } grep { /^(?:rules-|limits|alerts)/ } shipped_files();
like($rules{'rules-fleet.yml'}, qr/seconds:rate5m\n\s+expr: .*\[20000ms\]/,
    'and rates over 5 minutes become rates over 20 seconds');
my $prometheus = Test::RequestCpu::Prometheus->prometheus(dir => $probe->dir, config => faster($config, $times),
    files => \%rules);

sub scrapes { return $prometheus->values('count_over_time(up[1m]) and up == 1', undef, 'instance') }
# wait until the window of the rates is full
ok(wait_until(40, sub { my $n = scrapes(); return keys %$n == 3 && !grep { $_ < $window - 6 } CORE::values(%$n) }),
    'Prometheus reads the three servers')
    or diag(explain(scrapes()), $prometheus->log);

#
# Load, with a reload and a killed worker in the middle

sub facts { return [ map { +{ json => $_->status, text => ($_->prometheus)[0] } } @servers ] }
my $before = facts();
my $begin = time;
my $seconds = 5;
my @clients = map { my $n = $_; detached(sub { load($servers[$n], $seconds, 1 + $n) }) } 0 .. 2;
sleep 1;
ok($servers[0]->reload, 'a server is reloaded meanwhile');
my $killed = $servers[1]->worker;
kill KILL => $killed;
ok(wait_until(60, sub { !grep { $_ == $killed } $servers[1]->workers } ), 'and a worker of another is killed');
$servers[1]->expect_log(qr/exited on signal 9/);
is(scalar(grep { $_->result > 20 } @clients), 3, 'all three servers answer requests');
if ($tls) {
    run_command('h2load', '-n', 20 * $_, '-c', 10 * $_, '--npn-list=http/1.1',
        'https://127.0.0.1:' . $servers[$_ - 1]->port('tls') . '/a.txt') for 1 .. 3;
}
$_->quiet for @servers;

# wait until all is flushed, and until Prometheus and its rules have read it
my $after;
my $settled = '';
wait_until(10, sub {
    $after = facts();
    my $now = JSON::PP->new->canonical->encode([ map { my $counter = $_;
        summed($after, sub { $_[0]{$counter} }) } qw(cpu_ns wakeups requests) ]);
    my $same = $now eq $settled;
    $settled = $now;
    sleep 0.2;
    return $same;
});
my $rest = time;
sleep 2.5;
my $now = time;
diag(sprintf 'load and rest took %.1f s', $now - $begin) if $now - $begin > 15;
cmp_ok($now - $begin, '<', $window - 1.5, 'all of it lies within the window of the rules');

#
# The counters: when nothing runs, Prometheus has the figures of the servers, to the last digit

sub summed {
    my ($facts, $value) = @_;
    my %sum;
    for my $fact (@$facts) {
        while (my ($zone, $content) = each %{ $fact->{json}{zones} }) {
            while (my ($key, $account) = each %{ $content->{keys} }) {
                my $value = $value->($account);
                if (ref $value) { $sum{"$zone,$key,$_"} += $value->{$_} for grep { $value->{$_} } keys %$value }
                else            { $sum{"$zone,$key"} += $value }
            }
        }
    }
    return \%sum;
}
sub fixed { my ($values, $digits) = @_; return { map { $_ => sprintf "%.${digits}f", $values->{$_} } keys %$values } }
sub seconds { my ($values) = @_; return { map { $_ => $values->{$_} / 1e9 } keys %$values } }

my @counters = (
    [ 'nginx_request_cpu_seconds_total', sub { $_[0]{cpu_ns} }, 9 ],
    [ 'nginx_request_cpu_wakeups_total', sub { $_[0]{wakeups} }, 0 ],
    [ 'nginx_request_cpu_sent_bytes_total', sub { $_[0]{sent_bytes} }, 0 ],
    [ 'nginx_request_cpu_received_bytes_total', sub { $_[0]{received_bytes} }, 0 ],
    [ 'nginx_request_cpu_requests_total', sub { $_[0]{responses} }, 0, 'class' ],
    [ 'nginx_request_cpu_per_request_seconds_count', sub { $_[0]{requests} }, 0 ],
);
for my $breakdown ([ 'cache', 'by_cache_status', 'status' ], [ 'order', 'by_connection_order', 'order' ],
    [ 'size', 'by_response_size', 'size' ]) {
    my ($name, $member, $label) = @$breakdown;
    for my $part ([ seconds => 'cpu_ns', 9 ], [ requests => 'requests', 0 ]) {
        my ($unit, $counter, $digits) = @$part;
        push @counters, [ "nginx_request_cpu_${name}_${unit}_total", sub {
            my $by = $_[0]{$member} || {};
            return { map { $_ => $by->{$_}{$counter} } keys %$by };
        }, $digits, $label ];
    }
}
push @counters, [ 'nginx_request_cpu_tls_handshakes_total', sub {
    my $by = $_[0]{tls_handshakes} || {};
    return { map { $_ => $by->{$_}{handshakes} } keys %$by };
}, 0, 'session' ], [ 'nginx_request_cpu_tls_handshake_seconds_total', sub {
    my $by = $_[0]{tls_handshakes} || {};
    return { map { $_ => $by->{$_}{cpu_ns} } keys %$by };
}, 9, 'session' ];

for (@counters) {
    my ($name, $value, $digits, $label) = @$_;
    my $expected = summed($after, $value);
    $expected = seconds($expected) if $digits;
    my @by = ('zone', 'key', $label || ());
    is_deeply(fixed($prometheus->values("sum by (@{[join ',', @by]}) ($name)", $now, @by), $digits),
        fixed($expected, $digits),
        "$name: the sum over the servers is what they say themselves");
}
my $cpu = summed($after, sub { $_[0]{cpu_ns} });
ok($cpu->{$_}, "there is CPU of $_") for 'domains,a.test', 'domains,b.test', 'domains,back\\slash"quote.test',
    'uris,/burn', $tls ? 'domains,tls.test' : ();

# Counters continued through the reload and the killed worker
for my $name (sort @{ $prometheus->get('/api/v1/label/__name__/values') }) {
    next unless $name =~ /^nginx_request_cpu_\w+_(?:total|bucket|sum|count)$/;
    my $resets = $prometheus->query("resets($name\[1m])", $now);
    is_deeply([ map { $_->[0] } grep { $_->[1] != 0 } @$resets ], [], "$name: no reset in " . @$resets . ' series');
}

#
# The rules
#
# rate() divides the increase between the first and the last sample in the window by the window. Before, it
# extrapolates the increase to both ends of the window, but by at most 1.1 of the usual distance of samples, and not
# below zero. So the figure is at least (counter after - counter before) / window, and at most that times
# (extrapolated time) / (time between first and last sample). The load lies between two samples, and the test knows
# both counters.

# Extrapolated time divided by the time between the first and the last sample, for each server. A sample that came at
# the very moment in which the rule was evaluated may or may not be included.
sub stretch {
    my ($at) = @_;
    my %stretch;
    for (@{ $prometheus->query('nginx_request_cpu_info[' . $window . 's]', $at) }) {
        my ($metric, @times) = ($_->[0], map { $_->[0] } @$_[1 .. $#$_]);
        for my $last ($#times, $at - $times[-1] < 0.2 ? $#times - 1 : ()) {
            my $span = $times[$last] - $times[0];
            my $step = $span / $last;
            my $extended = $span;
            for my $gap ($times[0] - ($at - $window), $at - $times[$last]) {
                $extended += $gap < 1.1 * $step ? $gap : 1.1 * $step;
            }
            my $stretch = \$stretch{ $metric->{instance} };
            $$stretch = $extended / $span if !$$stretch || $$stretch < $extended / $span;
        }
    }
    return \%stretch;
}

# The last result of a rule, and its time: { key => number }, time.
sub recorded {
    my ($server, $name, $at, $selector, @labels) = @_;
    my $times = $server->values("timestamp($name\{$selector})", $at, @labels);
    my ($time) = sort { $b <=> $a } CORE::values(%$times);
    return ($server->values("$name\{$selector}", $at, @labels), $time);
}

# The increase of each account of each server, by a function of the account.
sub increase {
    my ($value) = @_;
    my @increase;
    for my $n (0 .. 2) {
        my ($old, $new) = map { summed([ $_->[$n] ], $value) } $before, $after;
        $increase[$n] = { map { $_ => $new->{$_} - ($old->{$_} || 0) } keys %$new };
    }
    return @increase;
}
my @cpu = increase(sub { $_[0]{cpu_ns} / 1e9 });
my @requests = increase(sub { $_[0]{requests} });
my @sent = increase(sub { $_[0]{sent_bytes} });
my @received = increase(sub { $_[0]{received_bytes} });

my $worst = 0;
sub between {
    my ($got, $low, $high, $name) = @_;
    # times of samples are in milliseconds
    my $fine = defined $got && $got >= $low * (1 - 1e-4) && $got <= $high * (1 + 1e-4);
    $worst = $high / $low - 1 if $low > 0 && $high / $low - 1 > $worst;
    return 1 if $fine;
    diag(sprintf '%s: %s is not between %.9g and %.9g', $name, defined $got ? $got : 'nothing', $low, $high);
    return 0;
}

for (
    [ 'seconds', 'CPU cores', \@cpu ], [ 'requests', 'requests per second', \@requests ],
    [ 'sent_bytes', 'bytes sent per second', \@sent ], [ 'received_bytes', 'bytes received per second', \@received ],
) {
    my ($metric, $title, $increase) = @$_;
    my ($fleet, $time) = recorded($prometheus, "zone_key:nginx_request_cpu_$metric:rate5m", $now, '', 'zone', 'key');
    my $stretch = stretch($time);
    my @factor = map { $stretch->{$_} } @nodes;
    my ($fine, %by_counters) = (1);
    for my $key (sort keys %$fleet) {
        my $low = sum(map { $_->{$key} } @$increase) / $window;
        my $high = sum(map { $increase->[$_]{$key} * $factor[$_] } 0 .. 2) / $window;
        $by_counters{$key} = $low;
        $fine &&= between($fleet->{$key}, $low, $high, "$metric of $key");
        ($fine = 0, diag("no load on $key")) if $key =~ /a\.test|b\.test|burn/ && !$low;
    }
    note(sprintf '%s: %.6g by the servers\' counters, %.6g recorded, %+.1f %%', $_, $by_counters{$_}, $fleet->{$_},
        100 * ($fleet->{$_} / $by_counters{$_} - 1))
        for grep { $metric eq 'seconds' && /^domains,/ } sort keys %by_counters;
    is_deeply([ sort keys %$fleet ], [ sort keys %$cpu ], "$title over the fleet: every domain has its own");
    ok($fine, "$title over the fleet: counter difference by time");

    next if $metric eq 'received_bytes';
    my ($node, $node_time) = recorded($prometheus, "instance_zone_key:nginx_request_cpu_$metric:rate5m", $now, '',
        'instance', 'zone', 'key');
    $stretch = stretch($node_time);
    $fine = 1;
    for my $n (0 .. 2) {
        for my $key (sort keys %{ $increase->[$n] }) {
            my $low = $increase->[$n]{$key} / $window;
            $fine &&= between($node->{"$nodes[$n],$key"}, $low, $low * $stretch->{ $nodes[$n] },
                "$metric of $key on $nodes[$n]");
        }
    }
    ok($fine, "$title on each node: counter difference by time");
}

# Ratios: numerator and denominator may be extrapolated differently
for (
    [ 'seconds_per_requests', 'CPU per request', \@requests, 1 ],
    [ 'seconds_per_sent_gigabytes', 'CPU seconds per GB', \@sent, 1e9 ],
) {
    my ($metric, $title, $by, $unit) = @$_;
    my ($fleet, $time) = recorded($prometheus, "zone_key:nginx_request_cpu_$metric:ratio_rate5m", $now, '',
        'zone', 'key');
    my ($node) = recorded($prometheus, "instance_zone_key:nginx_request_cpu_$metric:ratio_rate5m", $now, '',
        'instance', 'zone', 'key');
    my ($most) = sort { $b <=> $a } CORE::values(%{ stretch($time) });
    my $fine = keys %$fleet > 3;
    for my $key (keys %$fleet) {
        my $ratio = sum(map { $_->{$key} } @cpu) / sum(map { $_->{$key} } @$by) * $unit;
        $fine &&= between($fleet->{$key}, $ratio / $most, $ratio * $most, "$metric of $key");
        for my $n (0 .. 2) {
            next unless $by->[$n]{$key};
            my $ratio = $cpu[$n]{$key} / $by->[$n]{$key} * $unit;
            $fine &&= between($node->{"$nodes[$n],$key"}, $ratio / $most, $ratio * $most,
                "$metric of $key on $nodes[$n]");
        }
    }
    ok($fine, "$title: the ratio of the sums, over the fleet and on each node");
}
note(sprintf 'tolerance: the limits are at most %.1f %% apart', 100 * $worst);

# Workers: the status page itself makes work, so they are never quite idle
sub workers {
    my ($fact) = @_;
    my %by;
    for (@{ $fact->{text} }) { $by{ $_->[1]{owner} } += $_->[2] if $_->[0] eq 'nginx_request_cpu_worker_seconds_total' }
    return \%by;
}
{
    my ($owners, $time) = recorded($prometheus, 'instance_owner:nginx_request_cpu_worker_seconds:rate5m', $now, '',
        'instance', 'owner');
    my ($all) = recorded($prometheus, 'instance:nginx_request_cpu_worker_seconds:rate5m', $now, '', 'instance');
    my ($share) = recorded($prometheus, 'instance_zone_key:nginx_request_cpu_seconds_per_worker_seconds:ratio_rate5m',
        $now, '', 'instance', 'zone', 'key');
    my ($cores) = recorded($prometheus, 'instance_zone_key:nginx_request_cpu_seconds:rate5m', $now, '', 'instance',
        'zone', 'key');
    my ($unattributed) = recorded($prometheus, 'instance:nginx_request_cpu_unattributed:ratio_rate5m', $now, '',
        'instance');
    my $stretch = stretch($time);
    for my $n (0 .. 2) {
        my ($old, $new) = map { workers($_->[$n]) } $before, $after;
        my $node = $nodes[$n];
        my $charged = ($new->{charged} - $old->{charged}) / $window;
        # 5 % for scrapes before and after
        ok(between($owners->{"$node,charged"}, $charged, $charged * $stretch->{$node} * 1.05, "charged on $node"),
            "$node: cores of workers by owner");
        my $sum = sum(map { $owners->{"$node,$_"} } qw(charged no_request loop other pool_threads));
        ok(abs($sum / $all->{$node} - 1) < 1e-9, "$node: and their sum");
        my $shares = sum(map { $share->{"$node,$_"} } grep { /^domains,/ } keys %{ $cpu[$n] });
        # accounts may be extrapolated to the ends of the window while workers are not
        ok($shares > 0.3 && $shares <= 1.001 * $stretch->{$node}, "$node: domains' shares of it are at most the whole")
            or diag($shares);
        my $part = $cores->{"$node,domains,a.test"} / $all->{$node};
        # the two groups of rules are evaluated at different instants
        ok(between($share->{"$node,domains,a.test"}, $part / $stretch->{$node}, $part * $stretch->{$node}, 'share'),
            "$node: a domain's share is its cores of all");
        my $other = $owners->{"$node,other"} / ($sum - $owners->{"$node,pool_threads"});
        ok(abs($unattributed->{$node} - $other) < 1e-9, "$node: what nobody claims");
    }
}

# A quantile lies in the bucket that contains it. This group of rules runs less often
{
    my ($quantiles, $time) = ({}, 0);
    wait_until(60, sub {
        ($quantiles, $time) = recorded($prometheus,
            'zone_key_quantile:nginx_request_cpu_per_request_seconds:histogram_quantile_rate5m', time, '', 'zone',
            'key', 'quantile');
        return $time && $time > $rest + 1.5;
    });
    my %bucket;
    for my $part ([ $before, -1 ], [ $after, 1 ]) {
        for my $sample (map { @{ $_->{text} } } @{ $part->[0] }) {
            my ($name, $label, $value) = @$sample;
            $bucket{ $label->{le} } += $part->[1] * $value
                if $name eq 'nginx_request_cpu_per_request_seconds_bucket' && $label->{zone} eq 'domains'
                && $label->{key} eq 'a.test';
        }
    }
    my $lower = 0;
    my %in;
    for my $le (sort { ($a eq '+Inf') <=> ($b eq '+Inf') || $a <=> $b } keys %bucket) {
        for my $q (0.5, 0.99) { $in{$q} ||= [ $lower, $le ] if $bucket{$le} >= $q * $bucket{'+Inf'} }
        $lower = $le;
    }
    for my $q (0.5, 0.99) {
        my $value = $quantiles->{"domains,a.test,$q"};
        ok(defined $value && $value > $in{$q}[0] * 0.999 && $value < $in{$q}[1] * 1.001,
            "quantile $q lies in its bucket") or diag(explain([ $value, $in{$q}, \%bucket ]));
    }
}

my @faults = map { "$_->{name}: $_->{lastError}" } grep { $_->{health} ne 'ok' }
    map { @{ $_->{rules} } } @{ $prometheus->get('/api/v1/rules')->{groups} };
is_deeply(\@faults, [], 'no rule and no alert has an error');
my @firing = map { $_->{labels}{alertname} } @{ $prometheus->get('/api/v1/alerts')->{alerts} };
is_deeply([ grep { !/^RequestCpuUnattributed$/ } @firing ], [], 'and nothing is wrong with the servers');

#
# The dashboard: every expression is valid, and has a result

my %variable = (
    __rate_interval => '20s', __range => '20s', job => 'nginx-cpu', zone => 'domains', instance => '.+',
        domain => 'a.test', top => 10,
);
my $at = time;
sub answers {
    my ($server, $name) = @_;
    my (@errors, @empty);
    # nothing to show: full zones, and handshakes of a domain without TLS
    my $may_be_empty = qr/zone_overflowed|tls_handshake.*a\.test/;
    $may_be_empty = qr/zone_overflowed|tls_handshake/ unless $tls;
    for ([ dashboard_expressions(%variable) ],
        [ map { [ "variable $_->[0]", '', $_->[2] ] } dashboard_variables(%variable) ]) {
        for (@$_) {
            my ($panel, $ref, $expression) = @$_;
            my $result = eval { $server->query($expression, $at) };
            push @errors, "$panel $ref: $@" unless $result;
            push @empty, "$panel $ref: $expression" if $result && !@$result && $expression !~ $may_be_empty;
            my $range = eval { $server->api('query_range', query => $expression, start => $at - 10, end => $at,
                step => 1) };
            push @errors, "$panel $ref, over time: $@" unless $range;
        }
    }
    is_deeply(\@errors, [], "$name answers every expression of the dashboard") or diag("@errors");
    is_deeply(\@empty, [], 'none of the answers is empty');
}
answers($prometheus, 'Prometheus');
my ($domain) = grep { $_->[0] eq 'domain' } dashboard_variables(%variable);
my %listed;
for my $series (@{ $prometheus->query($domain->[2], $at) }) {
    # the text to which Grafana applies the regular expression
    my $text = '{' . join(',', map { my $value = $series->[0]{$_}; $value =~ s/(["\\])/\\$1/g; qq{$_="$value"} }
        sort keys %{ $series->[0] }) . '}';
    $listed{$1}++ if $text =~ /$domain->[3]/;
}
is_deeply([ sort grep { /^[ab]/ } keys %listed ], [ sort 'a.test', 'b.test', 'back\\\\slash\\"quote.test' ],
    'the list of domains has them');

# A federation gets the figures of domains; of single nodes it gets only workers and zones
{
    my @match = shipped('federation.yml') =~ /^ +- '(\{.*\})'$/mg;
    is(scalar @match, 2, 'the federation asks for two kinds of series');
    my $given = $prometheus->{http}->get($prometheus->url('/federate?'
        . $prometheus->{http}->www_form_urlencode([ map { ('match[]' => $_) } @match ])));
    my %name = map { $_ => 1 } $given->{content} =~ /^([a-z_:0-9]+)\{/mg;
    ok($name{$_}, "the federation has $_")
        for qw(zone_key:nginx_request_cpu_seconds:rate5m job:nginx_request_cpu_unattributed:ratio_rate5m nginx_request_cpu_zone_accounts up);
    is_deeply([ grep { /^instance_zone_key:|^nginx_request_cpu_(?!zone_)/ } sort keys %name ], [],
        'and no series of a domain on a node');
}

#
# VictoriaMetrics has the same figures

SKIP: {
    skip('victoria-metrics is not here (package victoria-metrics)', 1) unless $store;
    my $arrived = wait_until(60, sub {
        my $theirs = $store->values('timestamp(job:nginx_request_cpu_worker_seconds:rate5m)', $now + 2,
            'job')->{'nginx-cpu'};
        my $ours = $prometheus->values('timestamp(job:nginx_request_cpu_worker_seconds:rate5m)', $now + 2,
            'job')->{'nginx-cpu'};
        return $theirs && $ours && $theirs >= $ours;
    });
    ok($arrived, 'VictoriaMetrics gets the samples that Prometheus writes');
    my %recorded = recorded_names();
    my ($compared, @different) = (0);
    for my $name (sort(keys %recorded), map { $_->[0] } @counters) {
        my ($ours, $theirs) = map { identified($_->query($name, $now)) } $prometheus, $store;
        push @different, "$name: other series" if join("\n", sort keys %$ours) ne join("\n", sort keys %$theirs);
        for (keys %$ours) {
            $compared++;
            next unless defined $theirs->{$_};
            push @different, "$name $_: $ours->{$_} and $theirs->{$_}"
                if abs($ours->{$_} - $theirs->{$_}) > 1e-12 * abs $ours->{$_};
        }
    }
    is_deeply(\@different, [], "and answers the same for $compared series of counters and rules")
        or diag(join "\n", @different[0 .. ($#different > 9 ? 9 : $#different)]);
    cmp_ok($compared, '>', 300, 'which are many');
    for (@counters) {
        my ($name, $value, $digits, $label) = @$_;
        my $expected = summed($after, $value);
        $expected = seconds($expected) if $digits;
        my @by = ('zone', 'key', $label || ());
        is_deeply(fixed($store->values("sum by (@{[join ',', @by]}) ($name)", $now, @by), $digits),
            fixed($expected, $digits), "$name: its sums are those of the servers");
    }
    answers($store, 'VictoriaMetrics');
}
sub identified {
    my ($series) = @_;
    # the name is in the query; external labels are added when it is written
    return { map {
        my $metric = $_->[0];
        join(',', map { "$_=$metric->{$_}" } grep { $_ ne 'monitor' && $_ ne '__name__' }
            sort keys %$metric) => $_->[1];
    } @$series };
}

#
# Detail: low leaves out histograms and breakdowns. Both have the documented number of series per key

{
    my %count;
    my $zones = $servers[0]->status->{zones};
    for my $detail (qw(full low)) {
        my $samples = $detail eq 'full' ? ($servers[0]->prometheus)[0]
            : Test::RequestCpu::parse_prometheus($servers[0]->get('/low')->{body});
        for (@$samples) { $count{$detail}{"$_->[1]{zone},$_->[1]{key}"}++ if exists $_->[1]{key} }
        my @large = grep { /_bucket|_(?:window|cache|order|size|tls)_/ } map { $_->[0] } @$samples;
        ok($detail eq 'full' ? @large > 0 : !@large,
            "detail=$detail has " . ($detail eq 'full' ? '' : 'neither ') . 'histograms and breakdowns');
    }
    my @wrong;
    for my $zone (keys %$zones) {
        for my $key (keys %{ $zones->{$zone}{keys} }) {
            my $account = $zones->{$zone}{keys}{$key};
            my $low = 12 + ($account->{limit} ? 6 : 0) + grep { $_ } CORE::values(%{ $account->{responses} });
            my $full = $low + 28
                + 2 * sum(map { scalar keys %{ $account->{$_}
                    || {} } } qw(by_cache_status by_connection_order by_response_size tls_handshakes));
            my $has = "$count{low}{\"$zone,$key\"} and $count{full}{\"$zone,$key\"}";
            push @wrong, "$zone, $key: $has instead of $low and $full" if $has ne "$low and $full";
        }
    }
    is_deeply(\@wrong, [],
        'series per key: 12, one for each class, and 6 of a limit; with full detail, 28 and two for each word of the breakdowns');
}

ok(defined $prometheus->stop, 'Prometheus ends');
ok(defined $store->stop, 'VictoriaMetrics ends') if $store;
$_->done(more => 1) for @servers;
$probe->_clean;
done_testing();
