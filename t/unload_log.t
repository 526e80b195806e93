# A reload removes the module while NGINX logs to standard error, to syslog, or to a file that was deleted: the last
# counts are still in the traffic log and in the state file.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new->need('load_module');
# a receiver of messages that reads none
my $syslog = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'udp') or die "no socket: $!\n";
my $folder = $t->dir . '/logs';
my @files = map { $t->dir . "/$_" } qw(traffic.log hosts.state hosts.state.lock);

sub config {
    my ($error_log, $is_used) = @_;
    my ($load, $user) = ($is_used ? 'load_module {{module}};' : '', $> == 0 ? 'user root;' : '');
    my $zone = $is_used ? <<'EOC' : '';
    request_cpu_zone $host zone=hosts:1m state={{dir}}/hosts.state;
    request_cpu zone=hosts;
    request_cpu_log {{dir}}/traffic.log zone=hosts interval=3660d;
EOC
    return <<"EOC";
$load
$user
worker_processes 1;
$error_log
events { }
http {
    access_log off;
    $zone
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 200 "here\\n"; }
    }
}
EOC
}

my %cases = (
    'standard error'            => 'error_log stderr notice;',
    'syslog'                    => 'error_log syslog:server=127.0.0.1:' . $syslog->sockport . ' notice;',
    'syslog and standard error' => 'error_log syslog:server=127.0.0.1:' . $syslog->sockport
    . " notice;\nerror_log stderr;",
    'a file that is gone'       => "error_log $folder/error.log;",
);
for my $case (sort keys %cases) {
    unlink @files;
    mkdir $folder;
    $t->start(raw => config($cases{$case}, 1), main => 'worker_processes 1;');
    $t->get('/', host => 'a.test') for 1 .. 5;
    rename $folder, "$folder-gone" if $case =~ /gone/;
    mkdir $folder;
    ok($t->reload(raw => config($cases{$case}, 0)), "$case: a reload without the module");
    ok(wait_until(10, sub { -e $files[1] && !-e $files[2] }), 'the state file is there, and not in use');
    my $requests = sum(map { /"requests":(\d+)/ ? $1 : 0 } split /\n/, $t->slurp($files[0]));
    is($requests, 5, 'the traffic log tells of all requests');
    is($t->stop, 0, 'stop');
}

done_testing();
