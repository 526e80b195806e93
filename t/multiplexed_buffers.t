# HTTP/2: frames that arrive in several buffers. Work at the end of a buffer is not charged to the requests of the
# next buffer, which is read in the same handler call. An error of one connection does not affect others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::HTTP2;
use Test::RequestCpu::Shares;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('http_v2', 'gzip');
$t->html('a.txt', "plain\n");
$t->html('dear.txt', join '', map { sprintf '%d ', $_ * $_ % 9973 } 1 .. 100_000);
$t->start(http => <<'EOC');
    request_cpu_zone $host zone=hosts:1m;
    request_cpu zone=hosts;
    http2_recv_buffer_size 16k;
    server {
        listen 127.0.0.1:{{port:http}}{{http2}};
        server_name main.test;
        {{http2_on}}
        location / { }
        location = /discarded { return 200 "not read\n"; }
        location = /dear.txt { gzip on; gzip_comp_level 9; gzip_types *; gzip_min_length 1; }
    }
EOC

my $shares = Test::RequestCpu::Shares->new($t);

# The windows of streams are closed, so that no answer with a body ends.
sub client {
    my $client = Test::RequestCpu::HTTP2->new($t->connect('http'), window => 0);
    $client->{window} = 0;
    $client->send($client->preface,
        $client->request('/a.txt', host => 'first.test', method => 'HEAD', number => \my $first));
    $client->finish($first) or die "connection is gone\n";
    $t->quiet;
    return $client;
}
my %gzip = (headers => { 'accept-encoding' => 'gzip' });
# Work of another connection lies between them, so that the processor's caches are in the same state as below.
my $gets = 6;
$shares->alone('alone.test', $gets, sub {
    return map {
        my ($client, $other) = (client(), client());
        $other->send($other->request('/dear.txt', host => 'other.test', %gzip));
        $t->quiet;
        $client->send($client->request('/a.txt', host => 'alone.test', method => 'HEAD', number => \my $stream));
        $client->finish($stream);
        ($client, $other);
    } 1 .. $gets;
});

# ngx_http_v2_read_handler reads this many bytes at a time, and continues if there are more.
my $buffer = 16_384 - 16;
my $run = sub {
    return map {
        my $client = client();
        my $dear = $client->request('/dear.txt', host => 'dear.test', %gzip);
        my $small = $client->request('/a.txt', host => 'small.test', method => 'HEAD', number => \my $stream);
        my $fill = $buffer - length($dear) - 9;
        my $unknown = substr(pack('N', $fill), 1) . pack('CCN', 0x40, 0, 0) . 'x' x $fill;
        # stopped, so that everything has arrived when the worker begins to read
        my $worker = $t->worker;
        kill STOP => $worker;
        $client->send($unknown . $dear . $small . $client->unknown);
        sleep 0.05;
        kill CONT => $worker;
        $client->finish($stream) or die "connection is gone\n";
        $client;
    } 1 .. 4;
};
$shares->scenario('an expensive request at the end of a buffer', owners => { 'dear.test' => 1 },
    small => { 'small.test' => 4 }, run => $run);

# A connection is closed with an error in the middle of a frame. Meanwhile another connection is in the middle of a
# frame too.
$shares->scenario('an error in a frame of another connection', owners => { 'up.test' => 1 },
    small => { 'small.test' => 4 }, run => sub {
    return map {
        my ($client, $bad) = (client(), client());
        $client->send($client->request('/discarded', host => 'up.test', method => 'POST', open => 1,
            number => \my $up));
        $t->quiet;
        my $data = $client->data($up, 'x' x 1000);
        $client->send(substr $data, 0, 500);
        $t->quiet;
        # SETTINGS with a window that is too large (ngx_http_v2_state_settings_params), and more data
        my $settings = Test::RequestCpu::HTTP2::frame('settings', 0, 0, pack 'nNnN', 3, 100, 4, 0xffffffff);
        for (substr($settings, 0, 17), substr($settings, 17), 'x') { $bad->send($_); $t->quiet }
        my $worker = $t->worker;
        kill STOP => $worker;
        $client->send(substr($data, 500)
            . $client->request('/a.txt', host => 'small.test', method => 'HEAD', number => \my $stream)
            . join '', map { $client->unknown($up) } 1 .. 800);
        sleep 0.05;
        kill CONT => $worker;
        $client->finish($stream) or die "connection is gone\n";
        ($client, $bad);
    } 1 .. 4;
});
$t->done;
