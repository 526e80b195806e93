# promtool accepts nginx-conf/prometheus, and the dashboard only uses existing metrics.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use File::Temp ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Prometheus;

plan(skip_all => 'promtool is not here') unless Test::RequestCpu::Prometheus->command('promtool');

my $folder = "$FindBin::Bin/../nginx-conf/prometheus";
my $copy = File::Temp->newdir('request-cpu-XXXXXX', TMPDIR => 1);
sub promtool { return run_command('promtool', @_, { timeout => 60 }) }
sub accepted {
    my ($name, @command) = @_;
    my ($status, $output) = promtool(@command);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($status == 0, $name) or diag($output);
    return $output;
}

accepted('the configuration is valid', 'check', 'config', "$folder/prometheus.yml");
accepted('the federation too', 'check', 'config', "$folder/federation.yml");
my @rules = grep { /^(?:rules-|scale|limits|alerts)/ } shipped_files();
is(scalar @rules, 6, 'six files of rules');
unlike(accepted("$_ is valid", 'check', 'rules', "$folder/$_"), qr/duplicate/i, 'and records nothing twice') for @rules;
accepted("$_: rules and alerts do what was worked out by hand", 'test', 'rules', "$folder/tests/$_")
    for map { m{([^/]+)$} } glob "$folder/tests/*.yml";

SKIP: {
    skip('vmalert is not here', 1) unless Test::RequestCpu::Prometheus->command('vmalert');
    my ($status, $output) = run_command('vmalert', '-dryRun', map { "-rule=$folder/$_" } @rules);
    is($status, 0, "VictoriaMetrics' vmalert takes the same files") or diag($output);
}

# Parts that are commented out are valid too
Test::RequestCpu->write_file("$copy/$_", shipped($_)) for @rules;
my $all = uncommented(shipped('prometheus.yml'));
like($all, qr/^$_:/m, "$_ can be put in") for qw(remote_write);
like($all, qr/^ +$_:/m, "$_ can be put in") for qw(detail metric_relabel_configs write_relabel_configs);
like($all, qr/^ +- $_$/m, "$_ can be put in") for qw(rules-scale.yml scale.yml), 'job_name: nginx-cpu-scale';
Test::RequestCpu->write_file("$copy/prometheus.yml", $all);
accepted('and it is valid with all that is commented out', 'check', 'config', "$copy/prometheus.yml");
unlike($all, qr/^ *#\S/m, 'none of which is left');

# Names of rules: level:metric:operations
my %recorded = recorded_names();
is_deeply([ grep { !/^[a-z_]+:nginx_request_cpu_[a-z_]+:[a-z_0-9]+$/ } sort keys %recorded ], [],
    'recorded names have a level, a metric and operations');
my $text = join '', map { shipped($_) } @rules;
is_deeply([ grep { !$recorded{$_} } $text =~ /\b([a-z_]+:nginx_request_cpu_\w+:\w+)/g ], [],
    'rules use no name that none records');

# A long-term store and a federation get the series of domains or of nodes, but not of both
for (['remote write', $all =~ /write_relabel_configs:.*?regex: '(.*?)'/s],
    ['federation', shipped('federation.yml') =~ /__name__=~"(.*?:.*?)"/]) {
    my ($name, $regex) = @$_;
    is_deeply([ sort grep { /^(?:$regex)$/ } keys %recorded ], [ sort grep { !/^instance_zone_key:/ } keys %recorded ],
        "$name: what the rules made of all nodes");
    is_deeply([ grep { /^(?:$regex)$/ }
        map { "nginx_request_cpu_$_" } qw(seconds_total requests_total per_request_seconds_bucket cache_seconds_total) ],
            [], 'and no counters of domains');
}

# Every family in a rule or a panel is a family of the module
my @expressions = dashboard_expressions(
    __rate_interval => '1m', __range => '6h', job => 'nginx-cpu', zone => 'domains', instance => '.+',
        domain => 'x.example', top => 10,
);
my @asked = map { $_->[2] } @expressions;
my ($source, $reference) = map {
    Test::RequestCpu->slurp("$FindBin::Bin/../$_") } qw(accounting/src/render/prometheus.rs docs/generated/counters.md);
my %family = map { $_ => 1 } $source =~ /(?:counter|gauge)\(\s*"(\w+)"/g,
    $reference =~ /^\| `nginx_request_cpu_(\w+)` \|/mg;
ok($family{$_}, "the module has $_") for qw(seconds_total per_request_seconds zone_accounts);
my %raw = map { $_ => 1 } join("\n", $text, @asked) =~ /(?<![:\w])nginx_request_cpu_(\w+?)(?:_bucket)?\b(?!:)/g;
is_deeply([ grep { !$family{$_} && !$family{s/_(?:bucket|sum|count)$//r} } sort keys %raw ], [],
    'no rule and no panel asks for a family that there is not');

# The dashboard
cmp_ok(scalar @expressions, '>', 20, 'the dashboard has expressions');
my @variables = dashboard_variables(job => 'nginx-cpu', zone => 'domains');
is_deeply([ map { $_->[0] } @variables ], [qw(job zone instance domain)], 'and variables');
my %used = map { $_ => 1 } map { /\b([a-z_]+:nginx_request_cpu_\w+:\w+)/g } @asked, map { $_->[2] } @variables;
is_deeply([ grep { !$recorded{$_} } sort keys %used ], [], 'every recorded series that it names is recorded');
is_deeply([ grep { !$used{$_} && !/_limit:cores$|_(?:scale|load):/ } sort keys %recorded ], [qw(
    instance_zone_key:nginx_request_cpu_requests:rate5m
    instance_zone_key:nginx_request_cpu_seconds_per_requests:ratio_rate5m
    instance_zone_key:nginx_request_cpu_seconds_per_sent_gigabytes:ratio_rate5m
    instance_zone_key:nginx_request_cpu_sent_bytes:rate5m
    job:nginx_request_cpu_worker_seconds:rate5m
    owner:nginx_request_cpu_worker_seconds:rate5m
    zone_key:nginx_request_cpu_received_bytes:rate5m
)], 'it uses all of them but these');
my $n = 0;
Test::RequestCpu->write_file("$copy/dashboard.yml", "groups:\n- name: dashboard\n  rules:\n" . join '', map {
    (my $quoted = $_) =~ s/'/''/g;
    '  - record: expression:' . $n++ . "\n    expr: '$quoted'\n";
} @asked, map { $_->[2] } @variables);
accepted('Prometheus can parse each expression', 'check', 'rules', "$copy/dashboard.yml");

my $dashboard = dashboard();
my @panels = @{ $dashboard->{panels} };
my %id;
is_deeply([ grep { $id{ $_->{id} }++ } @panels ], [], 'every panel has its own number');
my (%cell, @overlap);
for my $panel (@panels) {
    my ($x, $y, $w, $h) = @{ $panel->{gridPos} }{qw(x y w h)};
    for my $row ($y .. $y + $h - 1) {
        for my $column ($x .. $x + $w - 1) { push @overlap, $panel->{title} if $cell{"$row $column"}++ || $column > 23 }
    }
}
is_deeply(\@overlap, [], 'panels neither overlap nor stick out');
is_deeply([ grep { ($_->{datasource}{uid} || '') ne '${datasource}' } map { ($_, @{ $_->{targets} || [] }) }
    grep { $_->{type} ne 'row' } @panels ], [],
    'all of them ask the chosen data source');

done_testing();
