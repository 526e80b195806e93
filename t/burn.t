# CPU time is charged to the request that uses it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;

my $t = Test::RequestCpu->new->need('gzip');
$t->html('text.txt', words(1_500_000));
$t->html('a.txt', "plain\n");

$t->start(http => <<"EOC");
    request_cpu_zone \$server_name zone=domains:1m;
    request_cpu zone=domains;
    log_format seconds '\$request_uri \$request_time \$request_cpu_time';
    server {
        listen 127.0.0.1:{{port:http}};
        server_name gzip.test;
        location / { gzip on; gzip_types *; gzip_comp_level 9; }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        server_name pcre.test;
        location / {
            @{[ burn_rules(4) ]}
            access_log {{dir}}/access.log facts;
            access_log {{dir}}/seconds.log seconds;
            return 200 "burnt\\n";
        }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        server_name upload.test;
        client_max_body_size 100m;
        location / {
            proxy_pass http://127.0.0.1:{{port:http}};
            proxy_set_header Host sink.test;
        }
    }
    server {
        listen 127.0.0.1:{{port:http}};
        server_name sink.test;
        client_max_body_size 100m;
        # Reading the body is what this server is for, and return does not wait for it.
        location / { proxy_pass http://127.0.0.1:{{port:upstream}}; }
    }
EOC
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub { $_[0]->answer("read\n") });

# Several rounds, and their median: the worker may do something else in one of the rounds.
sub charged_and_used {
    my ($rounds, $code, $pick, $part_of) = @_;
    $part_of ||= 'used';
    my @ratios;
    for my $round (1 .. $rounds) {
        $t->clear_log;
        my ($used, $work) = $t->worked(sub { $code->(); $t->logged(1, $pick) });
        my $charged = sum(map { $_->{ns} } $t->log_lines);
        # the worker reads a part of a body, sleeps, and reads the next part
        push @ratios, $charged / ($part_of eq 'work' ? $work : $used);
    }
    return \@ratios;
}

sub is_charged {
    my ($ratios, $low, $name, $high) = @_;
    my $median = median(@$ratios);
    ok($median >= $low && $median <= ($high || 1.001), $name) or diag("charged / used: @$ratios");
}

my $any = sub { 1 };
my $ratios = charged_and_used(5, sub {
    my $answer = $t->get('/text.txt', host => 'gzip.test', headers => { 'Accept-Encoding' => 'gzip' });
    $answer->{complete} && length $answer->{body} < 1_000_000 or die "not compressed\n";
}, $any);
is_charged($ratios, 0.95, 'gzip of 1.5 MB is charged the CPU of the thread, to within 5 %');
is(scalar(grep { $_ > 1.001 } @$ratios), 0, 'and never more');

$ratios = charged_and_used(5, sub { $t->get('/?x=' . burn_text(20), host => 'pcre.test') }, $any);
is_charged($ratios, 0.95, 'so is CPU that is burnt within one wakeup');

# NGINX reads its own clock once per handler call, so its times do not measure CPU.
my @seconds = map { [ split ' ' ] } split /\n/, $t->slurp($t->dir . '/seconds.log');
my $longest = (sort { $b <=> $a } map { $_->[2] } @seconds)[0];
my ($burnt) = grep { $_->[2] == $longest } @seconds;
cmp_ok($burnt->[1], '<', $burnt->[2],
    'a request that burns in one wakeup has more CPU time than NGINX has $request_time');

$ratios = charged_and_used(3, sub {
    my $answer = $t->get('/up', method => 'POST', host => 'upload.test', body => 'x' x 20_000_000);
    $answer->{body} eq "read\n" or die "upload failed: $answer->{status}\n";
    $t->logged(2);
}, sub { 1 }, 'work');
is_charged($ratios, 0.90, 'receiving and forwarding a body is charged', 1.05);

my $account = $t->account_with('domains', 'gzip.test', 5);
is($account->{requests}, 5, 'the account has its five requests');
my $before = $account->{cpu_ns};
$t->clear_log;
my $used = $t->measured(sub {
    $t->get('/text.txt', host => 'gzip.test', headers => { 'Accept-Encoding' => 'gzip' }) for 1 .. 3;
    $t->logged(3);
});
my $logged = sum(map { $_->{ns} } $t->log_lines);
$account = $t->account_with('domains', 'gzip.test', 8);
my $grown = $account->{cpu_ns} - $before;
cmp_ok($grown, '>=', $logged, 'the account has the CPU of the log, and of the work after the log line');
within($grown, $used, 0.95, 1.001, 'and no more than the thread used');

# Cheap requests beside it are charged little.
$t->clear_log;
$t->get('/a.txt', host => 'gzip.test') for 1 .. 21;
$t->logged(21);
my $cheap = median(map { $_->{ns} } $t->log_lines);
cmp_ok($cheap * 50, '<', $logged / 3, 'a small file costs a fraction of it');

$account = $t->account_with('domains', 'gzip.test', 29);
is($account->{by_request_cpu}[-1]{requests}, 29, 'the histogram of the account has every request in its last bucket');

$t->done;
