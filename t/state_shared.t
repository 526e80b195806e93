# The owner of a state file: its lock without `/proc`, and between two masters. And accounts whose zone gets another
# name by an upgrade, or together with another copy of the module.

use strict;
use warnings;

use File::Copy qw(copy);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
my $copy = $t->dir . '/copy.so';
!$t->has('load_module') || copy($t->{module}, $copy) or die "cannot copy the module: $!\n";
my $lock = $t->dir . '/kept.lock';

sub http {
    my ($name, $size) = (@_, '1m');
    return <<"EOC";
    request_cpu_zone \$host zone=$name:$size state={{dir}}/kept;
    request_cpu zone=$name;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { }
    }
EOC
}

sub ask { my ($count) = @_; $t->get('/a.txt', host => 'one.test') for 1 .. $count }

sub requests { my ($name, $least) = @_; return $t->account_with($name, 'one.test', $least || 0)->{requests} }

# A server with the same file as this one is refused
sub is_refused {
    my ($name) = @_;
    my $second = Test::RequestCpu->new;
    $second->html('a.txt', "plain\n");
    $second->expect_log(qr/is in use by another server/);
    my $http = http('a') =~ s/\Q{{dir}}\E/$t->{dir}/r;
    ok(!eval { local $SIG{__WARN__} = sub { }; $second->start(http => $http, quiet => 1); 1 }, $name);
    like($second->error_log, qr/\[emerg\].*is in use by another server/, 'and it says why');
    $second->done(more => 1);
}

# Another name and another size with a new binary, which is then stopped
$t->start(daemon => 1, http => http('a'));
ask(5);
requests('a', 5);
ok($t->upgrade(http => http('a', '2m')), 'an upgrade to another size');
is(requests('a', 5), 5, 'keeps the accounts');
ok($t->take_back, 'that is taken back');
ok(-e $lock, 'leaves the lock to the old master');
is_refused('another server does not start then');
ok($t->reload(http => http('a')), 'a reload of the old master');
ok($t->upgrade(http => http('b')), 'an upgrade to another name of the zone');
is(requests('b', 5), 5, 'keeps the accounts');
ok(-e $lock, 'both masters have the lock');
is($t->retire, 0, 'the old one ends');
ok(-e $lock, 'and the new one has it alone');
ask(3);
is(requests('b', 8), 8, 'and counts');

# The new master gives up the zone, and is stopped: the old master still has it
my $gone = "    server {\n        listen 127.0.0.1:{{port:http}};\n    }\n";
ok($t->upgrade, 'an upgrade');
ok($t->reload(http => $gone, status => 0), 'a reload of the new master without the zone');
ok(-e $lock, 'leaves the lock to the old one');
ok($t->take_back, 'it is told to go');
$t->_write_config(%{ $t->{part} = { %{ $t->{part} }, http => http('b'), status => 1 } });
ask(1);
is(requests('b', 9), 9, 'the old one counts on');
is($t->stop, 0, 'stop');
is(scalar(grep { /was removed/ } split /\n/, $t->error_log), 0, 'no worker takes the zone for one that was removed');
$t->start(http => http('b'));
is(requests('b', 9), 9, 'nothing is lost');

# Another name with another copy of the module
SKIP: {
    skip('the module is a part of this NGINX, and has no copy', 2) unless $t->has('load_module');
    local $t->{module} = $copy;
    ok($t->reload(http => http('c')), 'a reload to another name of the zone, with another copy of the module');
    is(requests('c', 9), 9, 'keeps the accounts');
}
is($t->stop, 0, 'stop');
ok(!-e $lock, 'the last server leaves no lock');

# A zone that was never saved, and one that was: the file shows which zone it belongs to
$t->start(daemon => 1, http => http('a') . '    request_cpu_zone $host zone=other:1m;');
is(requests('a', 9), 9, 'a start');
ok($t->upgrade(http => http('b')), 'an upgrade to another name, where another zone has the same key');
is(requests('b', 9), 9, 'keeps the accounts of its file');
is($t->retire, 0, 'to the end');
is($t->stop, 0, 'stop');

# A zone that the new master does not have
$t->start(daemon => 1, http => http('b'));
ok($t->upgrade(http => $gone, status => 0), 'an upgrade without the zone');
is($t->retire, 0, 'to the end');
ok(!-e $lock, 'leaves no lock');
is($t->stop, 0, 'stop');

# Without /proc
SKIP: {
    my ($failed, $said) = run_command('unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /proc');
    skip("no other /proc: $said", 5) if $failed;
    my @before = ('unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$0" "$@"');
    $t->start(http => http('a'), before => \@before);
    ask(2);
    is(requests('a', 11), 11, 'without /proc the file is read');
    ok($t->reload, 'a reload does not take its own lock for that of another server');
    is(requests('a', 11), 11, 'and keeps the accounts');
    is($t->stop, 0, 'stop');
    ok(!-e $lock, 'no lock is left');
}

$t->done;
