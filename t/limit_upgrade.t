# Debts of limits: a reload and a binary upgrade keep them, a restart forgives them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
# compressing this text costs tens of milliseconds of CPU, which takes tens of seconds to pay back
srand 1;
$t->html('dear.txt', join '', map { chr(97 + int rand 26) } 1 .. 1_500_000);
$t->html('a.txt', "plain\n");

my %server = (daemon => 1, http => <<'EOC');
    request_cpu_zone $host zone=hosts:1m state=hosts.state;
    request_cpu zone=hosts;
    server {
        listen 127.0.0.1:{{port:http}};
        request_cpu_limit zone=hosts cores=0.001;
        gzip on;
        gzip_types *;
        gzip_comp_level 9;
        location / { }
    }
EOC

sub status { my ($host) = @_; return $t->get('/a.txt', host => $host)->{status} }

sub make_debt {
    my $answer = $t->get('/dear.txt', host => 'debtor.test', headers => { 'Accept-Encoding' => 'gzip' });
    return $answer->{status} == 200 && wait_until(10, sub { status('debtor.test') == 429 });
}

$t->start(%server);
ok(make_debt(), 'a key in debt is refused');
ok($t->reload, 'a reload');
is(status('debtor.test'), 429, 'the debt stays');
is(status('other.test'), 200, 'another key has none');
ok($t->upgrade, 'a binary upgrade');
is($t->retire, 0, 'to the end');
is(status('debtor.test'), 429, 'the debt stays');
is($t->stop, 0, 'stop');
$t->start(%server);
cmp_ok($t->account('hosts', 'debtor.test')->{requests}, '>', 0, 'a restart: the counters are there');
is(status('debtor.test'), 200, 'the debt is forgiven');

$t->done;
