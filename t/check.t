# cpu-report check reads the output of "nginx -T" of a real NGINX, and tells what this NGINX counts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use Test::More;
use Test::RequestCpu;

my $root = "$FindBin::Bin/..";
my ($program) = grep { -x } $ENV{TEST_CPU_REPORT} // (), glob "$root/target/{vendored,.}/{debug,release}/cpu-report";
plan(skip_all => 'cpu-report is not built: cargo build --package request-cpu-report') unless $program;

my $t = Test::RequestCpu->new;

# Runs the command. Returns its status, its text, and its document.
sub check {
    my (@arguments) = @_;
    my ($status, $text) = run_command($program, 'check', @arguments);
    my ($same, $json) = run_command($program, 'check', '--json', @arguments);
    is($same, $status, 'text and JSON have one status');
    my $document = $status == 2 ? undef : JSON::PP->new->utf8->decode($json);
    return ($status, $text, $document)
}

# The output of "nginx -T" in a file, with the messages of NGINX.
sub dumped {
    my ($status, $output) = run_command($t->{binary}, '-T', '-e', 'stderr', '-p', $t->dir . '/', '-c',
        $t->dir . '/nginx.conf');
    is($status, 0, 'nginx -T') or diag($output);
    $t->write_file($t->dir . '/dump', $output);
    return $t->dir . '/dump'
}

mkdir $t->dir . '/sites' or die "mkdir: $!\n";
my $site = <<'EOC';
server {
    listen 127.0.0.1:{{port:b}};
    server_name b.test;
    location / { return 200 ok; }
    location /off/ {
        request_cpu off;
        location /off/inner/ { return 200 ok; }
        location /off/on/ { request_cpu zone=paths; return 200 ok; }
    }
}
EOC
$t->write_file($t->dir . '/sites/b.conf', $site =~ s/\{\{port:b\}\}/$t->port('b')/er);
$t->start(http => <<'EOC');
    request_cpu_zone $server_name zone=names:1m;
    request_cpu_zone $host$uri zone=paths:1m;
    request_cpu_zone $server_port zone=unused:1m;
    request_cpu zone=names;
    include sites/*.conf;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name a.test;
        request_cpu zone=names zone=paths;
        location / { return 200 ok; }
        location /paths/ { request_cpu zone=paths; return 200 ok; }
    }
EOC
my $dump = dumped();
my ($status, $text, $document) = check($dump);
is($status, 1, 'status 1: there is a warning') or diag($text);
like($text, qr/nginx\.conf:\d+: warning: no requests are counted in zone "unused"/, 'with file and line');
is_deeply([ map { $_->{id} } @{ $document->{findings} } ], ['zone-unused'], 'only this one: all listen on loopback');
my ($finding) = @{ $document->{findings} };
my @lines = split /\n/, $t->slurp($t->dir . '/nginx.conf');
like($lines[ $finding->{line} - 1 ], qr/zone=unused/, 'the line is that of the directive');
ok($document->{is_measured}, 'requests are measured');
is($document->{files}, 2, 'of two files');

# What the command tells of a location is what NGINX counts there
my %location;
for my $server (@{ $document->{servers} }) {
    $location{"$server->{names}[0] $_->{location}"} = $_->{zones} for @{ $server->{locations} };
}
my ($sent, %counted) = (0);
for my $case ([ http => 'a.test', '/', '/x' ], [ http => 'a.test', '/paths/', '/paths/x' ],
    [ b => 'b.test', '/', '/y' ], [ b => 'b.test', '/off/', '/off/y' ],
    [ b => 'b.test', '/off/inner/', '/off/inner/y' ],
    [ b => 'b.test', '/off/on/', '/off/on/y' ]) {
    my ($port, $host, $location, $uri) = @$case;
    my $requests = sub {
        my $zones = $t->status->{zones};
        return map { ($zones->{names}{keys}{$host} || {})->{requests} || 0,
            ($zones->{paths}{keys}{"$host$uri"} || {})->{requests} || 0 } 1;
    };
    my @before = $requests->();
    my $connection = $t->connect($port);
    $connection->request($uri, host => $host, headers => { Connection => 'close' });
    $connection->response;
    $connection->close;
    $t->quiet;
    my @after = $requests->();
    my @zones = grep { defined } ($after[0] > $before[0] ? 'names' : undef), ($after[1] > $before[1] ? 'paths' : undef);
    is_deeply(\@zones, $location{"$host $location"}, "$host $location: " . (join(', ', @zones) || 'not counted'));
}

# By --nginx, by standard input, and what cannot be read
my $options = "-p '" . $t->dir . "/' -c nginx.conf -e stderr";
$t->write_file($t->dir . '/nginx', "#!/bin/sh\nexec '$t->{binary}' \"\$@\" $options\n");
chmod 0755, $t->dir . '/nginx';
my ($by_nginx, $same) = check('--nginx', $t->dir . '/nginx');
is($by_nginx, 1, '--nginx runs NGINX');
is($same, $text, 'with the same result');
is(`$program check <$dump`, $text, 'so has standard input');
$t->write_file($t->dir . '/nginx.conf', "events { }\nhttp { request_cpu zone=none; }\n");
my ($failed, $message) = check('--nginx', $t->dir . '/nginx');
is($failed, 2, 'a configuration that NGINX refuses: status 2');
like($message, qr/nginx -T fails: .*(?:unknown directive|unknown zone)/, 'with its message');
is((check($t->dir . '/none'))[0], 2, 'a file that does not exist: status 2');

$t->done;
