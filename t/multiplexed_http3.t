# HTTP/3: work of a connection with several requests is charged to the request that causes it. See t/multiplexed.t.

use strict;
use warnings;

# Each scenario waits a second or two for later charges.
BEGIN { $ENV{TEST_TIME_LIMIT} ||= 900 }

use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Open2;
use JSON::PP ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Shares;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('http_v3', 'http_ssl');
my ($python) = grep { $_ && system("$_ -c 'import aioquic' >/dev/null 2>&1") == 0 }
    $ENV{TEST_PYTHON}, "$FindBin::Bin/../target/python/bin/python3", 'python3';
plan(skip_all => 'no Python with aioquic, the HTTP/3 client of this test') unless $python;
$t->certificate(rsa => 'h3');
$t->html('a.txt', "plain\n");
$t->html('3m', 'y' x 3_000_000);

my ($back, $sink) = Test::RequestCpu::Shares::sink();

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:h3}} quic;
        listen 127.0.0.1:{{port:http}};
        ssl_protocols TLSv1.3;
        ssl_certificate {{dir}}/h3.pem; ssl_certificate_key {{dir}}/h3.key;
        http3 on;
        client_max_body_size 0;
        location / { }
        location = /buffered { proxy_pass http://$sink/; }
        location = /direct { proxy_http_version 1.1; proxy_request_buffering off; proxy_pass http://$sink/read; }
        location = /off { request_cpu off; return 204; }
        location = /off_slow { request_cpu off; limit_rate 2m; alias {{dir}}/html/3m; }
        location = /limited { request_cpu_limit zone=hosts cores=0.002 burst=5ms; proxy_pass http://$sink/; }
        location = /refused { request_cpu_limit zone=hosts cores=0.001 burst=1ms; try_files /a.txt =404; }
        location = /burn { @{[ burn_rules(6) ]}
            try_files /a.txt =404; }
    }
EOC

# A client that does these steps, and keeps its connection open until it is told to close it. "say" steps wait for
# goes_on().
package Client {
    use strict;
    use warnings;
    use IPC::Open2;
    sub new {
        my ($class, @steps) = @_;
        my $pid = open2(my $out, my $in, $python, "$FindBin::Bin/lib/h3_mixed.py", $t->port('h3'),
            JSON::PP->new->encode([ @steps, [ say => 'open' ] ]));
        return bless { pid => $pid, out => $out, in => $in }, $class;
    }
    sub next {
        my ($self) = @_;
        my $line = readline $self->{out};
        die "the HTTP/3 client has failed\n" unless defined $line;
        chomp $line;
        return $line;
    }
    sub goes_on { my ($self) = @_; $self->{in}->print("\n"); $self->{in}->flush }
    sub close {
        my ($self) = @_;
        my $pid = delete $self->{pid} or return;
        my $answers;
        if (!$self->{killed}) {
            $self->goes_on;
            my $text = join '', readline $self->{out};
            $answers = $text ne '' ? JSON::PP->new->decode($text) : {};
        }
        waitpid $pid, 0;
        return $answers;
    }
    # without a message to the server
    sub kill { my ($self) = @_; CORE::kill KILL => $self->{pid}; $self->{killed} = 1; $self->close }
    sub DESTROY {
        my ($self) = @_;
        if ($self->{pid}) { local ($?, $!); CORE::kill KILL => $self->{pid}; waitpid $self->{pid}, 0 }
    }
}

# The first request pays for the handshake.
my @first = ([ get => 'first.test', '/a.txt' ]);
sub run { my @steps = @_; return sub { my $client = Client->new(@first, @steps); $client->next; return $client } }
# QUIC does some work of its own after the last request, such as delayed acknowledgements. Here, the last request is
# that of an owner.
sub run_for { my ($host, @steps) = @_; return run(@steps, [ get => $host, '/a.txt' ]) }

my $shares = Test::RequestCpu::Shares->new($t);
$shares->{prefix} = 'HTTP/3: ';
my $MB = 1_000_000;

ok($shares->indebted('refused.test', sub { $t->get($_[0], host => 'refused.test') }), 'a host is refused');

# The cost of small requests. Work of another connection lies between them, so that the processor's caches are in the
# same state as below.
my $gets = 15;
sub beside {
    my ($host, $uri) = @_;
    return sub {
        my $client = Client->new(@first, map { ([ say => 'before' ], [ get => $host, $uri ]) } 1 .. $gets);
        for (1 .. $gets) {
            $client->next;
            $t->get('/buffered', method => 'POST', host => 'other.test', body => 'x' x $MB);
            $client->goes_on;
        }
        $client->next;
        return $client;
    };
}
$shares->alone('alone.test', $gets, beside('alone.test', '/a.txt'));
my $alone = $shares->cost_of('alone.test');
for ([ 'refused.test', '/refused' ], [ 'gone.test', '/gone' ]) { $shares->alone_of($_->[0], $gets, beside(@$_)) }
sub small { my ($count) = @_; return [ gets => $count, 'small.test', '/a.txt' ] }
sub upload {
    my ($host, $uri, $bytes, $name) = @_;
    $name ||= 'u';
    return ([ open => $name, $host, $uri ], [ body => $name, $bytes ], [ end => $name ]);
}

for my $uri ('/buffered', '/direct') {
    $shares->scenario("uploads to $uri, each followed by a small request", owners => { 'up.test' => 1 },
        small => { 'small.test' => 5 },
        run => run_for('up.test', map { (upload('up.test', $uri, $MB), small(1)) } 1 .. 5));
    $shares->scenario("small requests beside an upload to $uri", owners => { 'up.test' => 1 },
        small => { 'small.test' => 10 },
        run => run_for('up.test', [ open => 'u', 'up.test', $uri ],
            (map { ([ body => 'u', $MB / 2 ], small(1)) } 1 .. 10), [ end => 'u' ]));
}
$shares->scenario('downloads, each followed by a small request', owners => { 'down.test' => 1 },
    small => { 'small.test' => 5 },
    run => run_for('down.test', map { ([ get => 'down.test', '/3m' ], small(1)) } 1 .. 5));
$shares->scenario('six downloads and small requests', owners => { 'down.test' => 1 }, small => { 'small.test' => 10 },
    run => run_for('down.test', (map { [ start => "d$_", 'down.test', '/3m' ] } 1 .. 6), small(10),
        [ wait => map { "d$_" } 1 .. 6 ]));
$shares->scenario('two uploads of different size', owners => { 'four.test' => 4, 'one.test' => 1 },
    run => run_for('four.test', [ open => 'four', 'four.test', '/buffered' ],
        [ open => 'one', 'one.test', '/buffered' ],
        (map { ([ body => 'four', 0.4 * $MB ], [ body => 'one', 0.1 * $MB ]) } 1 .. 12), [ end => 'four' ],
        [ end => 'one' ]));
$shares->scenario('uploads that the client resets', owners => { 'reset.test' => 1 }, small => { 'small.test' => 5 },
    run => run_for('reset.test',
        map { ([ open => "r$_", 'reset.test', '/buffered' ], [ body => "r$_", $MB ], [ reset => "r$_" ],
            small(1)) } 1 .. 5));

# A small request beside a request that is the first of its connection and has not ended
$shares->scenario('a small request beside the first upload of a connection', owners => { 'up.test' => 1 },
    small => { 'small.test' => 4 }, run => sub {
    return map {
        my $client = Client->new([ open => 'u', 'up.test', '/buffered' ], [ body => 'u', 2 * $MB ], small(1));
        $client->next;
        $client;
    } 1 .. 4;
});
# Gaps that a client leaves in a body cost nothing.
$shares->scenario('bodies with gaps beside an upload', owners => { 'up.test' => 1 }, small => { 'small.test' => 12 },
    run => run([ open => 'u', 'up.test', '/buffered' ],
        (map { ([ open => "g$_", 'small.test', '/buffered' ], [ sleep => 0.02 ], [ body => 'u', $MB / 5 ],
            [ gap => "g$_", 65_000 ], [ sleep => 0.02 ], [ get => 'up.test', '/a.txt' ]) } 1 .. 12), [ end => 'u' ]));

# Requests in between take over none of the upload's work.
for ([ 'that are not counted', 'off.test', '/off' ], [ 'that are refused', 'refused.test', '/refused', 10 ],
    [ 'that are answered by 404', 'gone.test', '/gone', 10 ]) {
    my ($name, $host, $uri, $count) = @$_;
    $shares->scenario("requests $name in between", owners => { 'up.test' => 1 },
        small => $count ? { $host => $count } : {},
        run => run_for('up.test', [ open => 'u', 'up.test', '/buffered' ],
            (map { ([ body => 'u', $MB / 2 ], [ get => $host, $uri ]) } 1 .. 10), [ end => 'u' ]));
}
# downloads, and refused requests beside them
$shares->scenario('refused requests beside downloads', owners => { 'down.test' => 1 },
    small => { 'refused.test' => 10 },
    run => run_for('down.test', (map { [ start => "d$_", 'down.test', '/3m' ] } 1 .. 4),
        [ gets => 10, 'refused.test', '/refused' ], [ wait => map { "d$_" } 1 .. 4 ]));

$shares->scenario('a connection that is closed in the middle of an upload', owners => { 'closed.test' => 1 },
    small => { 'small.test' => 3 }, run => sub {
    for (1 .. 3) {
        my $client = Client->new(@first, small(1), [ open => 'u', 'closed.test', '/buffered' ],
            [ body => 'u', 2 * $MB ]);
        $client->next;
        $client->close;
    }
    return;
});
$shares->scenario('frames of no stream after the last one, on an open connection', owners => { 'last.test' => 1 },
    small => { 'small.test' => 1 },
    run => run(small(1), [ get => 'last.test', '/a.txt' ], [ pings => 400 ]));
$shares->scenario('frames of no stream after requests that are not counted or are refused',
    owners => { 'last.test' => 1 }, small => { 'refused.test' => 1 },
    run => run([ get => 'last.test', '/a.txt' ], [ get => 'refused.test', '/refused' ], [ get => 'off.test', '/off' ],
        [ pings => 400 ]));

# While the upload runs, it is charged; and a limit includes it.
for my $host ('runs.test', 'limited.test') {
    my $client = Client->new(@first, [ open => 'u', $host, $host eq 'limited.test' ? '/limited' : '/direct' ],
        (map { ([ say => 'before' ], [ body => 'u', 3 * $MB ]) } 1 .. 2),
        [ sleep => 1.2 ], [ get => $host, $host eq 'limited.test' ? '/limited' : '/a.txt' ]);
    for my $part (1 .. 2) {
        $client->next;
        my $before = $shares->used->{$host} || 0;
        my (undef, $work) = $t->worked(sub { $client->goes_on; sleep 1.2; $t->quiet });
        my $seen = wait_until(2, sub { ($shares->used->{$host} || 0) - $before >= 0.7 * $work });
        ok($seen, "HTTP/3: part $part of an upload of $host is in the account while it runs")
            or diag(sprintf '%d of %d ns', ($shares->used->{$host} || 0) - $before, $work);
    }
    $client->next;
    my $statuses = $client->close->{statuses};
    is($statuses->{429} || 0, $host eq 'limited.test' ? 1 : 0,
        'HTTP/3: ' . ($host eq 'limited.test' ? 'a limit refuses the next request of its key' : 'no limit is there'));
}

# Header fields of one request in the packet of another
{
    my %figure;
    for (1 .. 4) {
        my %new = (alone => $shares->accounted(run([ gets => 30, 'light-alone.test',
            '/a.txt' ]))->{of}->('light-alone.test'));
        my $both = $shares->accounted(run(map { ([ start => "l$_", 'light.test', '/a.txt' ],
            [ fields => 'fields.test', '/a.txt', 60 ], [ wait => "l$_" ]) } 1 .. 30));
        $new{light} = $both->{of}->('light.test');
        for (keys %new) { $figure{$_} = $new{$_} if !$figure{$_} || $new{$_} < $figure{$_} }
        last if $_ >= 2 && $figure{light} <= 30 * $shares->bound($figure{alone} / 30);
    }
    cmp_ok($figure{light}, '<=', 30 * $shares->bound($figure{alone} / 30),
        'HTTP/3: a request is charged its own cost, whatever header follows it');
}

# The handshake. QUIC does more work for a connection soon after it, such as finding the path's MTU. That work is
# charged to the last counted request. So this test compares the charges of requests in the log.
{
    my $count = 6;
    my $take = sub {
        my (@steps) = @_;
        $t->clear_log;
        $shares->accounted(sub { return map { my $client = Client->new(@steps); $client->next; $client } 1 .. $count });
        my %sum;
        for my $line ($t->log_lines) { $sum{ $line->{host} }{$_} += $line->{$_} for qw(ns conn_ns) }
        return \%sum;
    };
    my ($shake, $late, $refused, $before, $after);
    my $most = $count * $shares->bound($alone);
    for (1 .. $shares->{rounds}) {
        $shake = $take->([ get => 'shake.test', '/a.txt' ])->{'shake.test'};
        $late = $take->([ get => 'off.test', '/off' ], [ get => 'late.test', '/a.txt' ], small(1));
        $before = $shares->refused('refused.test');
        $refused = $take->([ get => 'refused.test', '/refused' ], small(1));
        $after = $shares->refused('refused.test');
        last if $late->{'late.test'}{conn_ns} >= 0.7 * $shake->{conn_ns}
            && $refused->{'refused.test'}{conn_ns} >= 0.7 * $shake->{conn_ns}
            && $late->{'small.test'}{ns} <= $most && $refused->{'small.test'}{ns} <= $most
            && $after->{refused_cpu_ns} - $before->{refused_cpu_ns} >= 0.7 * $shake->{conn_ns};
    }
    cmp_ok($shake->{conn_ns}, '>', 0.5 * $shake->{ns}, 'HTTP/3: the first request of a connection takes the handshake');
    within($late->{'late.test'}{conn_ns}, $shake->{conn_ns}, 0.7, 1.6,
        'HTTP/3: one that is not counted leaves it to the first one that is');
    cmp_ok($late->{'small.test'}{ns}, '<=', $most, 'HTTP/3: and not to the second one');
    within($refused->{'refused.test'}{conn_ns}, $shake->{conn_ns}, 0.7, 1.6, 'HTTP/3: one that is refused takes it');
    cmp_ok($after->{refused_cpu_ns} - $before->{refused_cpu_ns}, '>=', 0.7 * $shake->{conn_ns},
        'HTTP/3: as refused CPU');
    cmp_ok($after->{debt_ns}, '<=', $before->{debt_ns}, 'HTTP/3: in no debt');
    cmp_ok($refused->{'small.test'}{ns}, '<=', $most, 'HTTP/3: and leaves nothing of it to the next one');

    # A request that is not counted ends last: the account of the other request gets the handshake.
    # Both figures are of the same moment, since other load on the machine changes them.
    my ($late_ns, $shake_ns) = (0, 0);
    for (1 .. $shares->{rounds}) {
        $shake_ns = $take->([ get => 'shake.test', '/a.txt' ])->{'shake.test'}{conn_ns};
        my $accounted = $shares->accounted(sub {
            return map { my $client = Client->new([ start => 'o', 'off.test', '/off_slow' ],
                [ get => 'late.test', '/a.txt' ], [ wait => 'o' ]); $client->next; $client } 1 .. 3;
        });
        $late_ns = $accounted->{of}->('late.test');
        last if $late_ns >= 0.5 * $shake_ns * 0.7;
    }
    cmp_ok($late_ns, '>=', 0.5 * $shake_ns * 0.7,
        'HTTP/3: one that is not counted leaves the handshake also if it ends later');
}

$back->done(more => 1);
$t->done;
