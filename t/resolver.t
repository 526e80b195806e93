# Names that NGINX resolves while a request waits.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new;
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub { $_[0]->answer("answer\n") });

# A slow name server that gives one address for each name
my $dns = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $t->port('dns'), Proto => 'udp')
    or die "udp: $@\n";
$t->spawn(sub {
    while (defined(my $from = $dns->recv(my $query, 1000))) {
        my ($id, undef, undef) = unpack 'nnn', $query;
        my ($name, $type) = $query =~ /^.{12}((?:[^\0].*?)?\0)(..)/s or next;
        next if $name =~ /silent/;
        sleep 0.1 unless $name =~ /quick/;
        my $found = unpack('n', $type) == 1 && $name !~ /unknown/;
        my $answer = pack('nnnnnn', $id, $name =~ /unknown/ ? 0x8183 : 0x8180, 1, $found ? 1 : 0, 0, 0) . $name . $type
            . pack('n', 1);
        $answer .= pack('nnnNnC4', 0xc00c, 1, 1, 1, 4, 127, 0, 0, 1) if $found;
        $dns->send($answer, 0, $from);
    }
});

$t->start(http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu zone=hosts;
    resolver 127.0.0.1:{{port:dns}} ipv6=off valid=1s;
    resolver_timeout 1s;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { proxy_pass http://\$arg_name:{{port:upstream}}; }
    }
EOC

$t->quiet;
my $used = $t->sched_ns($t->worker);
my @clients = map {
    my $connection = $t->connect('http');
    $connection->request("/?name=name$_.test", host => $_ % 2 ? 'odd.test' : 'even.test', close => 1);
    $connection;
} 1 .. 6;
is(scalar(grep { $_->response->{status} == 200 } @clients), 6, 'names are looked up');
my @same = map { my $c = $t->connect('http'); $c->request('/?name=same.test', host => "same$_.test", close => 1);
    $c } 1 .. 4;
is(scalar(grep { $_->response->{status} == 200 } @same), 4, 'one name for several requests at the same time');
is($t->get('/?name=same.test', host => 'cached.test')->{status}, 200, 'and once more, from memory');
is($t->get('/?name=unknown.test', host => 'unknown.test')->{status}, 502, 'a name that does not exist');
is($t->get('/?name=silent.test', host => 'silent.test')->{status}, 502, 'and a name that the server does not answer');
my $gone = $t->connect('http');
$gone->request('/?name=gone.test', host => 'gone.test');
sleep 0.03;
$gone->close;

my @lines = $t->logged(14);
$t->quiet;
$used = $t->sched_ns($t->worker) - $used;
is(scalar(grep { $_->{ns} =~ /^[1-9]\d*$/ } @lines), 14, 'requests that wait for a name are charged');
cmp_ok(sum(map { $_->{ns} } @lines), '<=', $used, 'but not for the wait');
is($t->account_with('hosts', 'odd.test', 3)->{requests}, 3, 'and counted');
for my $host (qw(same1.test same2.test same3.test same4.test unknown.test silent.test gone.test)) {
    my $account = $t->account_with('hosts', $host, 1);
    is("$account->{requests} $account->{in_flight}", '1 0', "$host: one request, which is over");
}

# The work of a request in the handler call in which its name is found; mainly connecting
my $books = sub { my ($worker) = @{ $t->status->{workers} }; return $worker };
my $before = $books->();
my $many = 200;
my $found = grep { $t->get("/?name=quick$_.test", host => 'quick.test')->{status} == 200 } 1 .. $many;
is($found, $many, 'many names that are looked up');
$t->logged(14 + $many);
my $after = $books->();
my ($other, $loop, $all) = map { $after->{$_} - $before->{$_} } qw(other_ns loop_ns thread_cpu_ns);
cmp_ok($other, '<', 0.01 * ($all - $loop), sprintf 'each is charged from there on: %.3f %% has no owner',
    100 * $other / ($all - $loop));

$t->done;
