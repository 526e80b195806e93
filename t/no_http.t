# Loaded and not used: the module replaces no function, measures nothing, and logs nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use Test::More;
use Test::RequestCpu;

# Configurations without http
for my $part (qw(stream mail)) {
    my $t = Test::RequestCpu->new;
    SKIP: {
        skip("no $part module", 4) unless $t->has($part);
        my $block = $part eq 'stream'
            ? 'stream { server { listen 127.0.0.1:{{port:any}}; return "hello\n"; } }'
            : 'mail { auth_http 127.0.0.1:1/; server { listen 127.0.0.1:{{port:any}}; protocol smtp; smtp_auth none; } }';
        $t->start(main => $t->load($part), extra => $block);
        my $connection = $t->connect('any');
        like($connection->read_until(qr/\n/), $part eq 'stream' ? qr/^hello$/ : qr/^220 /, "$part works without http");
        $connection->close;
        ok($t->reload, "$part: also after a reload");
        $t->done(more => 1);
    }
}

# A configuration with nothing but events
{
    my $t = Test::RequestCpu->new;
    $t->start(main => 'worker_processes 2;');
    is(scalar($t->workers), 2, 'workers run with nothing to do');
    $t->done(more => 1);
}

# With http, but without a directive of the module
my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
my %server = (
    'only loaded' => 'server { listen 127.0.0.1:{{port:http}}; location / { } }',
    'with an unused zone' =>
    'request_cpu_zone $host zone=hosts:1m; request_cpu_clock thread; server { listen 127.0.0.1:{{port:http}}; location / { } }',
);
for my $name (sort keys %server) {
    $t->start(log => 0, status => 0, http => $server{$name});
    is($t->get('/a.txt')->{body}, "plain\n", "$name: requests are served");
    is($t->stop, 0, "$name: and the server ends");
}

# With a status page, which shows no accounts
$t->start(log => 0, status => 0, http => <<'EOC');
    request_cpu_zone $host zone=hosts:1m;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
        location = /status { request_cpu_status; }
    }
EOC
$t->get('/a.txt') for 1 .. 20;
my $answer = $t->get('/status?format=json');
is($answer->{status}, 200, 'the status page is there');
my $status = JSON::PP->new->utf8->decode($answer->{body});
is(sum(map { $_->{wakeups} + $_->{thread_cpu_ns} + $_->{charged_ns} } @{ $status->{workers} }), 0,
    'nothing was measured');
is_deeply($status->{zones}{hosts}{keys}, {}, 'nothing was counted');
is($t->get('/status?format=prometheus')->{status}, 200, 'in either format');
is($t->stop, 0, 'the server ends');

# A reload that adds a zone starts the measurement; a reload that removes it ends the measurement
my $used = <<'EOC';
    request_cpu_zone $host zone=hosts:1m;
    request_cpu zone=hosts;
    server { listen 127.0.0.1:{{port:http}}; location / { } location = /status { request_cpu_status; } }
EOC
(my $unused = $used) =~ s/request_cpu zone=hosts;//;
$t->start(log => 0, status => 0, http => $unused);
$t->get('/a.txt', host => 'a.test');
sub requests {
    return JSON::PP->new->utf8->decode($t->get('/status?format=json',
        host => 'status.test')->{body})->{zones}{hosts}{keys}{'a.test'}{requests} || 0;
}
is(requests(), 0, 'not used: not counted');
ok($t->reload(http => $used), 'a reload makes use of the module');
$t->get('/a.txt', host => 'a.test');
ok(wait_until(60, sub { requests() == 1 }), 'and requests are counted');
ok($t->reload(http => $unused), 'a reload takes that back');
$t->get('/a.txt', host => 'a.test');
$t->quiet;
is(requests(), 1, 'and they are not any more');

$t->done(no_totals => 1);
