# Configurations that NGINX refuses, with a message that names the directive and the fault.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;

# The configuration as an http block, or as a whole file if the context matters.
sub conf {
    my ($where, $text) = @_;
    my $zone = 'access_log off; request_cpu_zone $host zone=a:1m;';
    return {
        http => "http { access_log off; $text }",
        after_zone => "http { $zone $text }",
        server => "http { $zone server { listen 127.0.0.1:{{port:a}}; $text } }",
        location => "http { $zone server { listen 127.0.0.1:{{port:a}}; location / { $text } } }",
        main => $text,
        events => $text,
        if => "http { $zone server { location / { if (\$arg_x) { $text } } } }",
        stream => "stream { server { listen 127.0.0.1:1; proxy_pass 127.0.0.1:1; $text } }",
        upstream => "http { upstream u { server 127.0.0.1:1; $text } }",
        types => "http { types { $text } }",
    }->{$where};
}

sub check {
    my ($where, $text) = @_;
    my $load = $where eq 'stream' ? $t->load('stream') : '';
    my $events = $where eq 'events' ? $text : '';
    my $rest = $where eq 'events' ? 'http { }' : conf($where, $text);
    unlink $t->dir . '/error.log';
    return $t->try_config(raw => "${load}load_module {{module}};\nworker_processes 1;\nevents { $events }\n$rest\n");
}

my $nine = join ' ', map { "zone=z$_" } 1 .. 9;
my $nine_zones = join ' ', map { "request_cpu_zone \$host zone=z$_:32k;" } 1 .. 9;
my @refused = (
    # request_cpu_zone
    [ 'no arguments', http => 'request_cpu_zone;', qr/"request_cpu_zone"/ ],
    [ 'no zone parameter', http => 'request_cpu_zone $host;', qr/"request_cpu_zone"/ ],
    [ 'something else instead of it', http => 'request_cpu_zone $host foo;', qr/"foo"/, qr/"request_cpu_zone"/ ],
    [ 'an unknown parameter', http => 'request_cpu_zone $host zone=a:1m foo=bar;', qr/"foo=bar"/,
        qr/"request_cpu_zone"/ ],
    [ 'no size', http => 'request_cpu_zone $host zone=a;', qr/"(?:zone=)?a"/, qr/"request_cpu_zone"/ ],
    [ 'an empty size', http => 'request_cpu_zone $host zone=a:;', qr/"(?:zone=a:)?"/, qr/"request_cpu_zone"/ ],
    [ 'a size that is none', http => 'request_cpu_zone $host zone=a:8x;', qr/"(?:zone=a:)?8x"/,
        qr/"request_cpu_zone"/ ],
    [ 'a negative size', http => 'request_cpu_zone $host zone=a:-1m;', qr/"(?:zone=a:)?-1m"/, qr/"request_cpu_zone"/ ],
    [ 'a size that is too large', http => 'request_cpu_zone $host zone=a:99999999999999999999g;',
        qr/99999999999999999999g/, qr/"request_cpu_zone"/ ],
    [ 'a size that is too small', http => 'request_cpu_zone $host zone=a:8k;', qr/"(?:zone=)?a(?::8k)?"|"8k"/,
        qr/too small|invalid/ ],
    [ 'one byte too few', http => 'request_cpu_zone $host zone=a:32767;', qr/"(?:zone=)?a(?::32767)?"|"32767"/,
        qr/too small|invalid/ ],
    [ 'no name', http => 'request_cpu_zone $host zone=:1m;', qr/"(?:zone=)?(?::1m)?"/, qr/"request_cpu_zone"/ ],
    [ 'a second zone of that name', after_zone => 'request_cpu_zone $uri zone=a:1m;', qr/"a"/, qr/duplicate|already/ ],
    [ 'a second zone of that name and size', after_zone => 'request_cpu_zone $host zone=a:1m;', qr/"a"/,
        qr/duplicate|already/ ],
    [ 'two zone parameters', http => 'request_cpu_zone $host zone=a:1m zone=b:1m;', qr/zone/, qr/"request_cpu_zone"/ ],
    [ 'an unknown variable', http => 'request_cpu_zone $no_such zone=a:1m; request_cpu zone=a;', qr/"no_such"/ ],
    [ 'a zone in a server', server => 'request_cpu_zone $host zone=b:1m;', qr/"request_cpu_zone"/, qr/not allowed/ ],
    [ 'a zone in a location', location => 'request_cpu_zone $host zone=b:1m;', qr/"request_cpu_zone"/,
        qr/not allowed/ ],
    [ 'a zone outside of http', main => 'request_cpu_zone $host zone=b:1m;', qr/"request_cpu_zone"/, qr/not allowed/ ],
    [ 'a state file without a name', http => 'request_cpu_zone $host zone=a:1m state=;', qr/state file ""/,
        qr/"request_cpu_zone"/ ],
    [ 'two state files', http => 'request_cpu_zone $host zone=a:1m state=a state=b;', qr/duplicate.*"state=b"/,
        qr/"request_cpu_zone"/ ],
    [ 'the state file of another zone',
        http => 'request_cpu_zone $host zone=a:1m state=x; request_cpu_zone $uri zone=b:1m state=x;', qr/"x"/, qr/"a"/,
        qr/"request_cpu_zone"/ ],
    [ 'the same by another name',
        http => 'request_cpu_zone $host zone=a:1m state=x; request_cpu_zone $uri zone=b:1m state={{dir}}/./x;',
        qr/"a"/, qr/"request_cpu_zone"/ ],
    [ 'a state file that is a folder', http => 'request_cpu_zone $host zone=a:1m state=html;', qr/"html".*folder/,
        qr/"request_cpu_zone"/ ],
    [ 'one that can only be a folder', http => 'request_cpu_zone $host zone=a:1m state=new/;', qr/"new\/".*folder/,
        qr/"request_cpu_zone"/ ],
    [ 'a state file whose name leaves no room for a longer one', http => 'request_cpu_zone $host zone=a:1m state='
        . 'a' x 241 . ';', qr/its name is too long/, qr/"request_cpu_zone"/ ],
    [ 'a state file in a folder that is not there', http => 'request_cpu_zone $host zone=a:1m state=no/a;',
        qr/"no\/a".*folder does not exist/, qr/"request_cpu_zone"/ ],
    [ 'a state file below a file', http => 'request_cpu_zone $host zone=a:1m state=nginx.conf/a;', qr/"nginx.conf\/a"/,
        qr/"request_cpu_zone"/ ],
    [ 'a state file that is a device', http => 'request_cpu_zone $host zone=a:1m state=/dev/null;',
        qr/"\/dev\/null".*regular/, qr/"request_cpu_zone"/ ],
    [ 'a state file without a zone', http => 'request_cpu_zone $host state=a;', qr/"zone"/, qr/"request_cpu_zone"/ ],
    (map { [ "a threshold that is none: $_", http => "request_cpu_zone \$host zone=a:1m active_threshold=$_;",
        qr/invalid threshold "\Q$_\E" in "request_cpu_zone", it must be cores from 0 to 100/ ] }
        '', '%', '1,5%', qw(x -1% +1 1e3 .5 1. 1%% 100.1 10000.1% 99999999999999999999 10ms $arg_x)),
    [ 'two thresholds', http => 'request_cpu_zone $host zone=a:1m active_threshold=1% active_threshold=0.01;',
        qr/duplicate parameter "active_threshold=0.01" in "request_cpu_zone"/ ],
    [ 'a threshold without a zone', http => 'request_cpu_zone $host active_threshold=1%;',
        qr/"request_cpu_zone" must have "zone"/ ],

    # request_cpu
    [ 'nothing to count in', after_zone => 'request_cpu;', qr/"request_cpu"/ ],
    [ 'an unknown zone', after_zone => 'request_cpu zone=nope;', qr/"nope"/, qr/request_cpu/ ],
    [ 'a zone where there is none', http => 'request_cpu zone=nope;',
        qr/unknown zone "nope" in "request_cpu": no "request_cpu_zone" is defined in \S+nginx\.conf:\d+$/m ],
    [ 'an unknown zone in a location', location => 'request_cpu zone=nope;', qr/"nope"/, qr/request_cpu/ ],
    [ 'an unknown zone beside a known one', server => 'request_cpu zone=a zone=nope;', qr/"nope"/, qr/request_cpu/ ],
    [ 'an empty name', after_zone => 'request_cpu zone=;', qr/request_cpu/ ],
    [ 'an unknown word', after_zone => 'request_cpu on;', qr/"on"/, qr/"request_cpu"/ ],
    [ 'an unknown parameter beside a zone', after_zone => 'request_cpu zone=a foo=1;', qr/"foo=1"/, qr/"request_cpu"/ ],
    [ 'off and a zone', after_zone => 'request_cpu off zone=a;', qr/"(?:off|zone=a)"/, qr/"request_cpu"/ ],
    [ 'a zone and off', location => 'request_cpu zone=a off;', qr/"(?:off|zone=a)"/, qr/"request_cpu"/ ],
    [ 'the same zone twice', after_zone => 'request_cpu zone=a zone=a;', qr/"(?:zone=)?a"/, qr/"request_cpu"/ ],
    [ 'nine zones', http => "$nine_zones request_cpu $nine;", qr/8/, qr/"request_cpu"/ ],
    [ 'twice at one level', server => 'request_cpu zone=a; request_cpu off;', qr/"off"/, qr/"request_cpu"/ ],
    [ 'off twice', server => 'request_cpu off; request_cpu off;', qr/"?request_cpu/, qr/duplicate/ ],
    [ 'the same zone in two directives', server => 'request_cpu zone=a; request_cpu zone=a;', qr/"a"/,
        qr/"request_cpu"/ ],
    [ 'outside of http', main => 'request_cpu off;', qr/"request_cpu"/, qr/not allowed/ ],
    [ 'in an upstream', upstream => 'request_cpu off;', qr/"request_cpu"/, qr/not allowed/ ],
    [ 'in events', events => 'request_cpu off;', qr/"request_cpu"/, qr/not allowed/ ],
    [ 'a zone of another module', http => 'limit_req_zone $host zone=l:1m rate=1r/s; request_cpu zone=l;', qr/"l"/,
        qr/request_cpu/ ],
    [ 'a name that limit_req has',
        http => 'limit_req_zone $host zone=l:1m rate=1r/s; request_cpu_zone $host zone=l:1m;', qr/"l"/ ],

    # request_cpu_clock
    [ 'no clock', http => 'request_cpu_clock;', qr/"request_cpu_clock"/ ],
    [ 'an unknown clock', http => 'request_cpu_clock sundial;', qr/"sundial"/, qr/"request_cpu_clock"/ ],
    [ 'a largest error without a unit', http => 'request_cpu_clock hybrid max_error=20;', qr/invalid max_error "20"/,
        qr/"request_cpu_clock"/, qr/1us to 10ms/ ],
    [ 'a largest error in seconds', http => 'request_cpu_clock hybrid max_error=1s;', qr/invalid max_error "1s"/,
        qr/"request_cpu_clock"/ ],
    [ 'no largest error', http => 'request_cpu_clock hybrid max_error=;', qr/invalid max_error ""/,
        qr/"request_cpu_clock"/ ],
    [ 'a largest error that is too small', http => 'request_cpu_clock hybrid max_error=0us;',
        qr/invalid max_error "0us"/, qr/1us to 10ms/ ],
    [ 'a largest error that is too large', http => 'request_cpu_clock hybrid max_error=11ms;',
        qr/invalid max_error "11ms"/, qr/1us to 10ms/ ],
    [ 'a negative largest error', http => 'request_cpu_clock hybrid max_error=-5us;', qr/invalid max_error "-5us"/,
        qr/1us to 10ms/ ],
    [ 'an unknown parameter of the clock', http => 'request_cpu_clock hybrid min_error=5us;', qr/"min_error=5us"/,
        qr/"request_cpu_clock"/ ],
    [ 'two parameters of the clock', http => 'request_cpu_clock hybrid max_error=5us max_error=6us;',
        qr/"request_cpu_clock"/, qr/invalid number of arguments/ ],
    [ 'two different clocks', http => 'request_cpu_clock thread; request_cpu_clock hybrid;', qr/"request_cpu_clock"/,
        qr/duplicate/ ],
    [ 'a parameter that this clock does not have', http => 'request_cpu_clock thread max_error=20us;',
        qr/max_error=20us/, qr/"request_cpu_clock"/ ],
    [ 'two clocks', http => 'request_cpu_clock thread; request_cpu_clock thread;', qr/"request_cpu_clock"/,
        qr/duplicate/ ],
    [ 'a clock in a server', server => 'request_cpu_clock thread;', qr/"request_cpu_clock"/, qr/not allowed/ ],

    # request_cpu_status
    [ 'an unknown format', location => 'request_cpu_status format=xml;', qr/xml/, qr/"request_cpu_status"/ ],
    [ 'a format in capitals', location => 'request_cpu_status format=HTML;',
        qr/invalid format "HTML" in "request_cpu_status"/, qr/"auto", "json", "prometheus" or "html"/ ],
    [ 'an unknown detail', location => 'request_cpu_status detail=some;', qr/some/, qr/"request_cpu_status"/ ],
    [ 'an unknown parameter of the status', location => 'request_cpu_status refresh=1;', qr/"refresh=1"/,
        qr/"request_cpu_status"/ ],
    [ 'a word', location => 'request_cpu_status json;', qr/"json"/, qr/"request_cpu_status"/ ],
    [ 'the status twice', location => 'request_cpu_status; request_cpu_status;', qr/"request_cpu_status"/,
        qr/duplicate/ ],
    [ 'the status in a server', server => 'request_cpu_status;', qr/"request_cpu_status"/, qr/not allowed/ ],
    [ 'the status in http', http => 'request_cpu_status;', qr/"request_cpu_status"/, qr/not allowed/ ],

    # request_cpu_limit
    [ 'a limit without anything', after_zone => 'request_cpu_limit;', qr/"request_cpu_limit"/ ],
    [ 'a limit without cores', after_zone => 'request_cpu_limit zone=a;', qr/"request_cpu_limit" must have "cores"/ ],
    [ 'a limit without a zone', after_zone => 'request_cpu_limit cores=1;', qr/"request_cpu_limit" must have "zone"/ ],
    [ 'a limit of an unnamed zone', after_zone => 'request_cpu_limit zone= cores=1;', qr/"zone="/,
        qr/"request_cpu_limit"/ ],
    [ 'a limit of an unknown zone', location => 'request_cpu_limit zone=nope cores=1;', qr/unknown zone "nope"/,
        qr/"request_cpu_limit"/, qr/nginx\.conf:\d+/ ],
    [ 'a word in a limit', after_zone => 'request_cpu_limit zone=a cores=1 nodelay;', qr/"nodelay"/,
        qr/"request_cpu_limit"/ ],
    (map { [ "cores that are none: $_", after_zone => "request_cpu_limit zone=a cores=$_;", qr/invalid cores "\Q$_\E"/,
        qr/"request_cpu_limit"/, qr/0\.001 to 100000/ ] }
        '', '1,5', qw(x 0 0.0 -1 +1 1e3 .5 1. 0.0009 100000.1 99999999999999999999 1s)),
    [ 'cores of an unknown variable', after_zone => 'request_cpu_limit zone=a cores=$no_such;', qr/"no_such"/ ],
    [ 'cores of a variable without a name', after_zone => 'request_cpu_limit zone=a cores=1$;',
        qr/invalid variable name/ ],
    (map { [ "a burst that is none: $_", after_zone => "request_cpu_limit zone=a cores=1 burst=$_;",
        qr/invalid burst "\Q$_\E"/, qr/"request_cpu_limit"/ ] }
        '', qw(x -1s 1q 1us 99999999999999999999s 9999999999999999s)),
    (map { [ "a largest debt that is none: $_", after_zone => "request_cpu_limit zone=a cores=1 max_debt=$_;",
        qr/invalid max_debt "\Q$_\E"/, qr/"request_cpu_limit"/, qr/must be a time of at least 1ms/ ] }
        '', qw(0 0s x -1s 1q 1us 99999999999999999999s 9999999999999999s $host)),
    (map { [ "a status that is none: $_", after_zone => "request_cpu_limit zone=a cores=1 status=$_;",
        qr/invalid status "\Q$_\E"/, qr/"request_cpu_limit"/, qr/400 and 599/ ] }
        '', qw(x 399 600 0 -429 99999999999999999999)),
    (map { [ "twice in a limit: $_", after_zone => "request_cpu_limit zone=a cores=1 $_ $_;",
        qr/duplicate parameter "\Q$_\E"/, qr/"request_cpu_limit"/ ] }
        qw(zone=a cores=1 burst=1s max_debt=1s status=429 dry_run)),
    [ 'two limits of a zone', server => 'request_cpu_limit zone=a cores=1; request_cpu_limit zone=a cores=2;', qr/"a"/,
        qr/"request_cpu_limit"/, qr/duplicate/ ],
    [ 'no limit and a limit', server => 'request_cpu_limit off; request_cpu_limit zone=a cores=2;', qr/"off"/,
        qr/"request_cpu_limit"/ ],
    [ 'a limit and no limit', server => 'request_cpu_limit zone=a cores=2; request_cpu_limit off;', qr/"off"/,
        qr/"request_cpu_limit"/ ],
    [ 'no limit twice', server => 'request_cpu_limit off; request_cpu_limit off;', qr/request_cpu_limit off/,
        qr/duplicate/ ],
    [ 'off and more', server => 'request_cpu_limit off zone=a;', qr/"off"/, qr/"request_cpu_limit"/ ],
    [ 'nine limits', http => "$nine_zones server { " . join(' ', map { "request_cpu_limit zone=z$_ cores=1;" } 1 .. 9)
        . ' }', qr/"z9"/, qr/"request_cpu_limit"/, qr/8/ ],
    [ 'a limit outside of http', main => 'request_cpu_limit zone=a cores=1;', qr/"request_cpu_limit"/,
        qr/not allowed/ ],
    [ 'a limit in if', if => 'request_cpu_limit zone=a cores=1;', qr/"request_cpu_limit"/, qr/not allowed/ ],
    [ 'a zone of limit_req', http => 'limit_req_zone $host zone=l:1m rate=1r/s; request_cpu_limit zone=l cores=1;',
        qr/unknown zone "l"/, qr/"request_cpu_limit"/ ],
    [ 'an unknown level', after_zone => 'request_cpu_limit_log_level debug;', qr/"debug"/,
        qr/"request_cpu_limit_log_level"/ ],
    [ 'two levels', after_zone => 'request_cpu_limit_log_level info; request_cpu_limit_log_level warn;',
        qr/"request_cpu_limit_log_level"/, qr/duplicate/ ],

    # request_cpu_log
    [ 'a log without anything', after_zone => 'request_cpu_log;', qr/"request_cpu_log"/,
        qr/invalid number of arguments/ ],
    [ 'a log without a zone', after_zone => 'request_cpu_log x.log;', qr/"request_cpu_log" must have "zone"/ ],
    [ 'a log with an interval only', after_zone => 'request_cpu_log x.log interval=5s;',
        qr/"request_cpu_log" must have "zone"/ ],
    [ 'a log of an unknown zone', after_zone => 'request_cpu_log x.log zone=b;',
        qr/unknown zone "b" in "request_cpu_log" in .*nginx.conf:/ ],
    [ 'a log of a zone without a name', after_zone => 'request_cpu_log x.log zone=;', qr/"zone="/,
        qr/"request_cpu_log"/ ],
    [ 'a log with a word', after_zone => 'request_cpu_log x.log zone=a combined;', qr/"combined"/,
        qr/"request_cpu_log"/ ],
    [ 'a log with an unknown parameter', after_zone => 'request_cpu_log x.log zone=a buffer=32k;', qr/"buffer=32k"/,
        qr/"request_cpu_log"/ ],
    [ 'an interval of nothing', after_zone => 'request_cpu_log x.log zone=a interval=0s;',
        qr/invalid interval "0s" in "request_cpu_log"/, qr/1s/ ],
    [ 'an interval that is too short', after_zone => 'request_cpu_log x.log zone=a interval=999ms;',
        qr/invalid interval "999ms" in "request_cpu_log"/, qr/1s/ ],
    [ 'an interval that is none', after_zone => 'request_cpu_log x.log zone=a interval=abc;',
        qr/invalid interval "abc" in "request_cpu_log"/ ],
    [ 'an interval that is negative', after_zone => 'request_cpu_log x.log zone=a interval=-5s;',
        qr/invalid interval "-5s" in "request_cpu_log"/ ],
    [ 'an interval that is too long', after_zone => 'request_cpu_log x.log zone=a interval=99999999999999999999s;',
        qr/invalid interval/, qr/"request_cpu_log"/ ],
    [ 'an interval longer than a line can tell', after_zone => 'request_cpu_log x.log zone=a interval=3661d;',
        qr/invalid interval "3661d" in "request_cpu_log", it must be from 1s to 3660d/ ],
    [ 'an interval one second too long', after_zone => 'request_cpu_log x.log zone=a interval=316224001s;',
        qr/invalid interval "316224001s" in "request_cpu_log"/ ],
    [ 'an empty interval', after_zone => 'request_cpu_log x.log zone=a interval=;', qr/invalid interval ""/,
        qr/"request_cpu_log"/ ],
    [ 'two intervals', after_zone => 'request_cpu_log x.log zone=a interval=1s interval=2s;',
        qr/duplicate parameter "interval=2s" in "request_cpu_log"/ ],
    [ 'two zones of a log', after_zone => 'request_cpu_log x.log zone=a zone=b;',
        qr/duplicate parameter "zone=b" in "request_cpu_log"/ ],
    [ 'a log twice', after_zone =>
        'request_cpu_log x.log zone=a; request_cpu_log ./x.log zone=a; request_cpu_log x.log zone=a interval=2s;',
        qr{path "x.log" in "request_cpu_log" is that of another one} ],
    [ 'two zones in one log',
        after_zone => 'request_cpu_zone $uri zone=b:1m; request_cpu_log x.log zone=a; request_cpu_log x.log zone=b;',
        qr/path "x.log" in "request_cpu_log" is that of another one/ ],
    [ 'a log that is off', after_zone => 'request_cpu_log off zone=a;', qr/"off" in "request_cpu_log"/ ],
    [ 'a third log of a zone',
        after_zone => 'request_cpu_zone $uri zone=b:1m; request_cpu_log x.log zone=a; request_cpu_log y.log zone=b; request_cpu_log y2.log zone=a; request_cpu_log z.log zone=a;',
        qr/too many logs of zone "a" in "request_cpu_log": "z.log" is one more than 2/ ],
    [ 'a log in syslog', after_zone => 'request_cpu_log syslog:server=127.0.0.1 zone=a;', qr/syslog/,
        qr/"request_cpu_log"/ ],
    [ 'a log without a name', after_zone => 'request_cpu_log "" zone=a;', qr/"request_cpu_log"/ ],
    [ 'a log with a variable', after_zone => 'request_cpu_log $host.log zone=a;',
        qr/"\$host.log" in "request_cpu_log": variables/ ],
    [ 'a log in a folder that is not there', after_zone => 'request_cpu_log no/x.log zone=a;',
        qr{open\(\) ".*/no/x.log" failed \(2: No such file} ],
    [ 'a log that is a folder', after_zone => 'request_cpu_log html zone=a;',
        qr{open\(\) ".*/html" failed \(21: Is a directory} ],
    [ 'a log in a server', server => 'request_cpu_log x.log zone=a;', qr/"request_cpu_log"/, qr/not allowed/ ],
    [ 'a log of a zone of another module',
        http => 'limit_req_zone $host zone=l:1m rate=1r/s; request_cpu_log x.log zone=l;', qr/unknown zone "l"/ ],

    # Names that do not exist are refused
    [ 'a variable of another version', http => 'log_format l $request_cpu_limit; server { access_log /dev/null l; }',
        qr/request_cpu_limit/ ],
);
push @refused, [ 'in stream', stream => 'request_cpu off;', qr/"request_cpu"/, qr/not allowed/ ] if $t->has('stream');

for my $case (@refused) {
    my ($name, $where, $text, @patterns) = @$case;
    my ($status, $output) = check($where, $text);
    my ($message) = $output =~ /^(.*\[emerg\].*)$/m;
    subtest "$name ($text)" => sub {
        isnt($status, 0, 'refused');
        ok(defined $message, 'with [emerg]') or diag($output);
        like($message || '', $_, "and a message with $_") for @patterns;
        unlike($output, qr/\[alert\]|panicked/, 'and nothing worse');
    };
}

# Similar configurations that are valid
my $eight = join ' ', map { "zone=z$_" } 1 .. 8;
for my $case (
    [ 'a zone that is not used', http => 'request_cpu_zone $host zone=a:1m;' ],
    [ 'the smallest zone', http => 'request_cpu_zone $host zone=a:32k; request_cpu zone=a;' ],
    [ 'a zone that is configured after it is used', http => 'request_cpu zone=a; request_cpu_zone $host zone=a:1m;' ],
    [ 'eight zones', http => "$nine_zones request_cpu $eight;" ],
    [ 'off', after_zone => 'request_cpu off;' ],
    [ 'the clock', http => 'request_cpu_clock thread;' ],
    [ 'the other clock', http => 'request_cpu_clock hybrid;' ],
    [ 'the other clock with its smallest error', http => 'request_cpu_clock hybrid max_error=1us;' ],
    [ 'the other clock with its largest error', http => 'request_cpu_clock hybrid max_error=10ms;' ],
    [ 'zones at every level',
        http => 'request_cpu_zone $host zone=a:1m; request_cpu zone=a; server { request_cpu off; location / { request_cpu zone=a; } }' ],
    [ 'a size in bytes', http => 'request_cpu_zone $host zone=a:65536;' ],
    [ 'a state file', http =>
        'request_cpu_zone $host zone=a:64k state=a; request_cpu_zone $host zone=b:64k state={{dir}}/b;' ],
    [ 'a log', after_zone => 'request_cpu_log x.log zone=a;' ],
    [ 'a log of a zone that is configured later',
        http => 'request_cpu_log x.log zone=a; request_cpu_zone $host zone=a:1m;' ],
    [ 'the longest interval', after_zone => 'request_cpu_log x.log zone=a interval=3660d;' ],
    [ 'several logs', after_zone =>
        'request_cpu_log x.log zone=a interval=1s; request_cpu_log {{dir}}/y.log zone=a interval=1h30m; request_cpu_zone $uri zone=b:1m; request_cpu_log z.log zone=b; request_cpu_log z2.log zone=b;' ],
    (map { [ "a threshold of $_",
        http => "request_cpu_zone \$host active_threshold=$_ zone=a:1m; request_cpu zone=a;" ] }
            qw(0 0% 1% 0.5% 100% 10000% 0.01 1.5 100 0.000000001)),
    [ 'a key of text', http => 'request_cpu_zone "a b" zone=a:64k;' ],
    (map { [ 'a limit', after_zone => "request_cpu zone=a; request_cpu_limit zone=a $_;" ] } 'cores=1', 'cores=0.001',
        'cores=100000 burst=0',
        'dry_run status=400 burst=1m cores=1.5', 'cores=1 status=599 burst=500ms', 'cores=$arg_c',
        'cores=0.$arg_c burst=1', 'max_debt=1ms cores=1', 'cores=$arg_c burst=0 max_debt=1d dry_run'),
    [ 'limits at every level',
        http => 'request_cpu_zone $host zone=a:1m; request_cpu_zone $uri zone=b:1m; request_cpu zone=a zone=b; request_cpu_limit zone=a cores=1; request_cpu_limit zone=b cores=1;'
        . ' request_cpu_limit_log_level info; server { request_cpu_limit off; request_cpu_limit_log_level error; location / { request_cpu_limit zone=a cores=1; request_cpu_limit_log_level notice; } }' ],
    [ 'the variable of limits', http => 'log_format l $request_cpu_limit_status; server { access_log /dev/null l; }' ],
    [ 'every format and detail',
        server => join(' ', map { my $f = $_;
            map { "location /$f/$_ { request_cpu_status format=$f detail=$_; }" } qw(full low) }
                qw(auto json prometheus html)) ],
    [ 'the status without parameters', location => 'request_cpu_status;' ],
) {
    my ($name, $where, $text) = @$case;
    my ($status, $output) = check($where, $text);
    is($status, 0, "$name is accepted ($text)") or diag($output);
    unlike($output, qr/\[(?:warn|error|crit|alert|emerg)\]/, "$name: without a word");
}

# Valid configurations that are certainly mistakes
my ($status, $output) = check(after_zone => 'request_cpu_limit zone=a cores=1;');
is($status, 0, 'a limit on a zone that nothing is counted in is accepted') or diag($output);
like($output, qr/\[warn\] .*zone "a" in "request_cpu_limit" is in no "request_cpu".* in \S+nginx\.conf:\d+/,
    'with a warning');

done_testing();
