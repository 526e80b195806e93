# The status as JSON: its members, and the answers to each kind of request.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use B ();
use Compress::Zlib ();
use JSON::PP ();
use Test::More;
use Test::RequestCpu;
use Time::HiRes qw(sleep);

my $t = Test::RequestCpu->new->need('gzip');
$t->html('a.txt', "plain\n");
$t->html('text.txt', words(500_000));
$t->start(main => 'worker_processes 2;', http => <<"EOC");
    request_cpu_zone \$host zone=hosts:1m;
    request_cpu_zone \$server_name zone=domains:64k;
    request_cpu zone=hosts zone=domains;
    server {
        listen 127.0.0.1:{{port:http}};
        server_name domain.test;
        location / { gzip on; gzip_types *; gzip_comp_level 9; }
        location = /moved { return 301 /; }
        location = /broken { return 500; }
        location = /early { return 103; }
    }
    server {
        listen 127.0.0.1:{{port:formats}};
        server_name formats.test;
        access_log off;
        request_cpu off;
        location /auto { request_cpu_status; }
        location /json { request_cpu_status format=json; }
        location /prometheus { request_cpu_status format=prometheus; }
        location /low { request_cpu_status detail=low; }
        location /low_json { request_cpu_status format=json detail=low; }
        location /full { request_cpu_status format=auto detail=full; }
        location /html { request_cpu_status format=html; }
        location /zipped { request_cpu_status; gzip on; gzip_vary on; gzip_min_length 1; gzip_types *;
            gzip_proxied any; }
        location /closed { request_cpu_status; deny all; }
    }
EOC

$t->get('/a.txt', host => 'one.test') for 1 .. 5;
$t->get('/text.txt', host => 'two.test', headers => { 'Accept-Encoding' => 'gzip' }) for 1 .. 4;
$t->get('/text.txt', host => 'two.test');
$t->get('/none', host => 'one.test');
$t->get('/moved', host => 'one.test');
$t->get('/broken', host => 'one.test') for 1 .. 2;
my @lines = $t->logged(14);
$t->account_with('domains', 'domain.test', 14);

my $status = $t->status;
sub number {
    my ($value) = @_;
    return defined $value && !ref $value && (B::svref_2object(\$value)->FLAGS & (B::SVf_IOK | B::SVf_NOK));
}
sub integer { my ($value) = @_; return number($value) && $value =~ /^\d+$/ }

# The document
is_deeply([ sort keys %$status ], [ qw(clock max_error_ns nginx_version time version workers zones) ],
    'members of the document');
like($status->{version}, qr/^\d+\.\d+\.\d+/, 'version');
is($status->{nginx_version}, $t->version, 'nginx_version');
like($status->{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'time');
is($status->{clock}, 'hybrid', 'clock');
is($status->{max_error_ns}, 20_000, 'the default of its largest error');

# Workers
my @workers = @{ $status->{workers} };
is(scalar(@workers), 2, 'as many workers as there are');
is_deeply([ sort { $a <=> $b } map { $_->{pid} } @workers ], [ $t->workers ], 'by their process numbers');
is_deeply([ sort map { $_->{worker} } @workers ], [ 0, 1 ], 'and their places');
for my $member (qw(worker pid wakeups thread_cpu_ns charged_ns no_request_ns loop_ns other_ns pool_threads_cpu_ns pending_ns clock_readings)) {
    is(scalar(grep { integer($_->{$member}) } @workers), 2, "worker: $member is an integer");
}
cmp_ok(sum(map { $_->{wakeups} } @workers), '>=', 14, 'their wakeups are at least the requests');

# Zones and accounts
is_deeply([ sort keys %{ $status->{zones} } ], [qw(domains hosts)], 'zones by name');
my $zone = $status->{zones}{hosts};
ok(integer($zone->{$_}), "zone: $_ is an integer") for qw(size_bytes used_bytes capacity accounts overflowed);
is($zone->{size_bytes}, 1048576, 'size_bytes is that of the configuration');
is($zone->{accounts}, 2, 'accounts');
is($zone->{overflowed}, 0, 'overflowed');
cmp_ok($zone->{capacity}, '>', 100, 'capacity');
ok($zone->{used_bytes} > 0 && $zone->{used_bytes} <= $zone->{size_bytes}, 'used_bytes');
is_deeply([ sort keys %{ $zone->{keys} } ], [qw(one.test two.test)], 'keys');
for my $key (qw(one.test two.test)) {
    my $account = $zone->{keys}{$key};
    my @mine = grep { $_->{host} eq $key } @lines;
    my $logged = sum(map { $_->{ns} } @mine);
    ok(integer($account->{$_}), "$key: $_ is an integer")
        for qw(requests cpu_ns wakeups sent_bytes received_bytes in_flight cpu_ns_per_request);
    ok(number($account->{cpu_seconds_per_gb}), "$key: cpu_seconds_per_gb is a number");
    is($account->{requests}, scalar @mine, "$key: requests");
    cmp_ok($account->{cpu_ns}, '>=', $logged, "$key: cpu_ns is no less than that of its log lines");
    cmp_ok($account->{wakeups}, '>=', sum(map { $_->{wakeups} } @mine), "$key: wakeups too");
    is($account->{sent_bytes}, sum(map { $_->{sent} } @mine), "$key: sent_bytes");
    is($account->{received_bytes}, sum(map { $_->{received} } @mine), "$key: received_bytes");
    is($account->{in_flight}, 0, "$key: in_flight");
    is_deeply([ sort keys %{ $account->{responses} } ], [qw(1xx 2xx 3xx 4xx 5xx)], "$key: responses has every class");
    within($account->{cpu_ns_per_request}, $account->{cpu_ns} / $account->{requests}, 0.99, 1.01,
        "$key: cpu_ns_per_request is what it says");
    within($account->{cpu_seconds_per_gb}, $account->{cpu_ns} / $account->{sent_bytes}, 0.99, 1.01,
        "$key: cpu_seconds_per_gb, with 10^9 bytes");
    ok(number($account->{cores}{$_}), "$key: cores over $_") for qw(10s 1m);

    # Breakdowns contain all requests
    for my $by (qw(by_cache_status by_connection_order by_response_size)) {
        is(sum(map { $_->{requests} } values %{ $account->{$by} }), scalar @mine, "$key: $by has every request");
        is(sum(map { $_->{cpu_ns} } values %{ $account->{$by} }), $logged, "$key: and the CPU of its log lines");
        is(scalar(grep { !$_->{requests} } values %{ $account->{$by} }), 0, "$key: and nothing that is zero");
    }
    is_deeply([ keys %{ $account->{by_cache_status} } ], ['NONE'], "$key: no cache took part");
    is_deeply([ keys %{ $account->{by_connection_order} } ], ['1'],
        "$key: each request was the first of its connection");
    my @histogram = @{ $account->{by_request_cpu} };
    cmp_ok(scalar @histogram, '>', 0, "$key: by_request_cpu has buckets");
    my @bounded = grep { defined $_->{le_ns} && $_->{le_ns} =~ /^\d+$/ } @histogram;
    is_deeply([ map { $_->{le_ns} } @bounded ], [ sort { $a <=> $b } map { $_->{le_ns} } @bounded ],
        "$key: in order of their bounds");
    is_deeply([ map { $_->{requests} } @histogram ], [ sort { $a <=> $b } map { $_->{requests} } @histogram ],
        "$key: they are cumulative");
    is_deeply(
        [ map { $_->{requests} } @bounded ],
        [ map { my $le = $_->{le_ns}; scalar(grep { $_->{ns} <= $le } @mine) } @bounded ],
        "$key: each has the requests up to its bound",
    );
    is($histogram[-1]{requests}, scalar @mine, "$key: the last one has them all");
}
my ($one, $two) = @{ $zone->{keys} }{qw(one.test two.test)};
is_deeply($one->{responses}, { '1xx' => 0, '2xx' => 5, '3xx' => 1, '4xx' => 1, '5xx' => 2 }, 'responses by class');
is($two->{by_response_size}{'1m'}{requests}, 1, 'a response of 500 kB is in the class up to 1m');
is($one->{by_response_size}{'1k'}{requests}, scalar(grep { $_->{host} eq 'one.test' && $_->{sent} <= 1024 } @lines),
    'small ones are in the class up to 1k');
my %bound = ('1k' => 1024, '4k' => 4096, '16k' => 16384, '64k' => 65536, '256k' => 262144, '1m' => 1048576);
my %expected;
for my $line (grep { $_->{host} eq 'two.test' } @lines) {
    my ($class) = sort { $bound{$a} <=> $bound{$b} } grep { $line->{sent} <= $bound{$_} } keys %bound;
    $expected{$class}++;
}
is_deeply({ map { $_ => $two->{by_response_size}{$_}{requests} } keys %{ $two->{by_response_size} } }, \%expected,
    'classes of size are those of the log');
is($status->{zones}{domains}{keys}{'domain.test'}{requests}, 14, 'another zone has its own view of the same requests');

# Cores: CPU divided by the time in which it was used
my $cores = 0;
my $limit = wait_until(60, sub {
    $t->get('/text.txt', host => 'busy.test', headers => { 'Accept-Encoding' => 'gzip' });
    $cores = $t->account('hosts', 'busy.test')->{cores}{'10s'};
    return $cores && $cores > 0;
});
ok($cores > 0, 'cores over the last ten seconds are there while there is load');
cmp_ok($cores, '<=', 2, 'and no more than there are workers');

# Filters
is_deeply([ keys %{ $t->status('zone=domains')->{zones} } ], ['domains'], '?zone= restricts the answer');
my $filtered = $t->status('zone=hosts&key=one.test')->{zones};
is_deeply([ map { [ $_, keys %{ $filtered->{$_}{keys} } ] } keys %$filtered ], [ [ 'hosts', 'one.test' ] ],
    '?zone= and ?key= together');
my $by_key = $t->status('key=domain.test')->{zones};
is_deeply([ map { keys %{ $by_key->{$_}{keys} || {} } } keys %$by_key ], ['domain.test'], '?key= alone');

sub ask { my ($query, %option) = @_; return $t->get("/?$query", port => 'status', %option) }
for my $case (
    [ 'an unknown zone', 'zone=nowhere', 404, qr/nowhere/ ],
    [ 'an unknown key', 'zone=hosts&key=nobody.test', 404, qr/nobody\.test/ ],
    [ 'an unknown key of any zone', 'key=nobody.test', 404, qr/nobody\.test/ ],
    [ 'an unknown format', 'format=xml', 400, qr/xml/ ],
    [ 'a format in capitals', 'format=HTML', 400, qr/HTML/ ],
    [ 'an unknown detail', 'detail=some', 400, qr/some/ ],
    [ 'no detail', 'detail=', 400, qr/unknown detail/ ],
    [ 'an unknown detail for Prometheus', 'format=prometheus&detail=FULL', 400, qr/FULL/ ],
    [ 'an unknown detail of the page', 'format=html&detail=some', 400, qr/some/ ],
    [ 'an unknown zone for Prometheus', 'format=prometheus&zone=nowhere', 404, qr/nowhere/ ],
) {
    my ($name, $query, $code, $pattern) = @$case;
    my $answer = ask($query);
    is($answer->{status}, $code, "$name is $code");
    like($answer->{body}, $pattern, "$name is named in the answer");
    like($answer->{headers}{'content-type'}, qr{^(?:application/json|text/plain)}, "$name: as JSON or text");
    if ($answer->{headers}{'content-type'} =~ /json/) {
        ok(eval { JSON::PP->new->utf8->decode($answer->{body}) }, "$name: and JSON it is");
    }
}
my $evil = ask('zone=%3Cb%3E%22%5C%0A%FF');
is($evil->{status}, 404, 'a zone with any bytes is unknown');
if ($evil->{headers}{'content-type'} =~ /json/) {
    ok(eval { JSON::PP->new->utf8->decode($evil->{body}) }, 'and does not break the answer') or diag($evil->{body});
}

# Methods
for my $method (qw(POST PUT DELETE OPTIONS PATCH)) {
    is(ask('format=json', method => $method, $method =~ /^P/ ? (body => 'x') : ())->{status}, 405,
        "$method is refused");
}
my ($head, $get) = map { ask('format=json', method => $_) } qw(HEAD GET);
is($head->{status}, 200, 'HEAD is answered');
is($head->{headers}{'content-type'}, $get->{headers}{'content-type'}, 'with the header of a GET');
my $raw = $t->connect('status');
$raw->send("HEAD /?format=json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
unlike($raw->read_all, qr/\r\n\r\n./s, 'and without a body');

# Formats
my $json = qr{^application/json};
my $prometheus = qr{^text/plain;\s*version=0\.0\.4};
my $scraper = 'application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2';
my $newer = 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1';
my $browser = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8';
my $html = qr{^text/html; charset=utf-8$};
for my $case (
    [ 'nothing said', '/auto', undef, $json ],
    [ 'application/json', '/auto', 'application/json', $json ],
    [ 'anything', '/auto', '*/*', $json ],
    [ 'a Prometheus scraper', '/auto', $scraper, $prometheus ],
    [ 'a newer scraper', '/auto', $newer, $prometheus ],
    [ 'text/plain of that version', '/auto', 'text/plain;version=0.0.4', $prometheus ],
    [ 'a browser', '/auto', $browser, $html ],
    [ 'a browser that is told', '/auto?format=html', '*/*', $html ],
    [ 'a browser that asks for JSON', '/auto?format=json', $browser, $json ],
    [ 'a browser where JSON is configured', '/json', $browser, $json ],
    [ 'and asks for the page', '/json?format=html', $browser, $json ],
    [ 'the page is configured', '/html', undef, $html ],
    [ 'for scrapers too', '/html', $scraper, $html ],
    [ 'but has to get its figures', '/html?format=json&detail=low', $browser, $json ],
    [ 'format=auto where the page is configured', '/html?format=auto', 'application/json', $html ],
    [ 'a zone and a key that may be none', '/auto?format=html&zone=nowhere&key=nobody', undef, $html ],
    [ 'an argument against the header', '/auto?format=json', $scraper, $json ],
    [ 'the other way round', '/auto?format=prometheus', 'application/json', $prometheus ],
    [ 'a configured format', '/json', $scraper, $json ],
    [ 'the other one', '/prometheus', 'application/json', $prometheus ],
    [ 'format=auto', '/full', $scraper, $prometheus ],
) {
    my ($name, $uri, $accept, $type) = @$case;
    my $answer = $t->get($uri, port => 'formats', headers => { Accept => $accept });
    is($answer->{status}, 200, "$name: is answered");
    like($answer->{headers}{'content-type'}, $type, "$name: by type");
    like($answer->{body}, $type == $json ? qr/^\s*\{/ : $type == $html ? qr/^<!DOCTYPE html>/ : qr/^# HELP /m,
        "$name: and by content");
    my $vary = $uri =~ m{^/(?:auto|full)(?!.*format=)} ? 'Accept' : '';
    is(join(', ', grep { $_ ne 'Accept-Encoding' } split /,\s*/, $answer->{headers}{vary} || ''), $vary,
        "$name: Vary") ;
    is($answer->{headers}{'x-content-type-options'}, 'nosniff', "$name: and nothing else");
    is($answer->{headers}{'cache-control'}, $type == $html ? 'no-cache' : 'no-store', "$name: Cache-Control");
}

# The page
my $page = $t->get('/auto', port => 'formats', headers => { Accept => $browser });
my %page = %{ $page->{headers} };
my $policy = $page{'content-security-policy'};
like($policy, qr/(?:^|; )\Q$_\E(?:;|$)/, "policy: $_")
    for map({ "$_ 'none'" } qw(default-src base-uri form-action frame-ancestors trusted-types)),
    map({ "$_ 'self'" } qw(script-src style-src connect-src img-src));
my %address = (
    'page.js'  => $page->{body} =~ m{<script defer src="([^"]+)"></script>},
    'page.css' => $page->{body} =~ m{<link rel="stylesheet" href="([^"]+)">},
    'icon.svg' => $page->{body} =~ m{<link rel="icon" href="([^"]+)" type="image/svg\+xml">},
);
like($address{$_}, qr/^\?asset=\Q$_\E\@[0-9a-f]+-[0-9a-f]{8}$/, "the page loads $_ from its own address")
    for sort keys %address;
is(scalar(() = $page->{body} =~ /<(?:script|style)\b|<link\b/g), 3, 'and nothing else');
unlike($page->{body}, qr{<[^<>]*\s(?:style|on\w+)\s*=}, 'nothing is styled or scripted in its elements');
unlike($page->{body}, qr/\{\{|<script>|<style/, 'nor in the page');
is($page{'referrer-policy'}, 'no-referrer', 'Referrer-Policy');
is($page{vary}, 'Accept', 'Vary');
my $plain = $t->get('/html', port => 'formats')->{body};
is($page{'content-length'}, length $plain, 'Content-Length');
is($plain, $page->{body}, 'the page is the same wherever it comes from');
my $zipped = $t->get('/zipped?format=html', port => 'formats', headers => { 'Accept-Encoding' => 'gzip, deflate, br' });
is($zipped->{headers}{'content-encoding'}, 'gzip', 'NGINX compresses it, where it is told to');
is(Compress::Zlib::memGunzip($zipped->{body}), $plain, 'as any other page');
my $long = $t->get('/html?token=a%20b&format=html&x&q="><script>', port => 'formats')->{body};
is($long =~ s/token=a%20b&amp;x&amp;q=%22%3E%3Cscript%3E&amp;//gr, $plain,
    'other arguments are passed on to the files that it loads') or diag($long =~ /(.*asset=.*)/g);
is(scalar(() = $long =~ /"\?token=a%20b&amp;x&amp;q=%22%3E%3Cscript%3E&amp;(?:asset|format)=/g), 3 + 4, 'all of it');

my ($head_of_page) = $t->get('/html', port => 'formats', method => 'HEAD', headers => { 'Accept-Encoding' => 'gzip' });
is($head_of_page->{status}, 200, 'HEAD of the page');
is($head_of_page->{headers}{'content-security-policy'}, $policy, 'has its headers');
is($t->get('/html', port => 'formats', method => 'POST', body => 'x')->{status}, 405, 'POST is refused there too');
like($page{etag}, qr/^"[^"]+"$/, 'ETag');
my $again = $t->get('/html', port => 'formats', headers => { 'If-None-Match' => $page{etag} });
is($again->{status}, 304, 'the same page is not sent again');
is($again->{body}, '', 'not at all');
is($t->get('/html', port => 'formats', headers => { 'If-None-Match' => '"other"' })->{status}, 200, 'another is');

# The files that the page loads
my %type = ('page.js' => 'text/javascript; charset=utf-8', 'page.css' => 'text/css; charset=utf-8',
    'icon.svg' => 'image/svg+xml');
for my $name (sort keys %address) {
    my $current = $t->get("/auto?asset=$name", port => 'formats', headers => { Accept => $browser })->{body};
    for my $where ("/html$address{$name}", "/auto$address{$name}", "/zipped?x=1&asset=$name") {
        my $plain = $t->get($where, port => 'formats', headers => { Accept => $browser });
        is($plain->{status}, 200, "$where");
        is($plain->{headers}{'content-type'}, $type{$name}, 'by type');
        is($plain->{headers}{'x-content-type-options'}, 'nosniff', 'which browsers do not guess');
        is($plain->{headers}{'content-length'}, length $plain->{body}, 'with its length');
        ok(!exists $plain->{headers}{'content-encoding'}, 'plain for those who do not say that they take gzip');
        is($plain->{headers}{vary}, 'Accept-Encoding', 'Vary') unless $where =~ /zipped/;
        is($plain->{headers}{'cache-control'}, 'no-cache', 'Cache-Control');
        ok($plain->{body} eq $current, 'with or without its tag');
        is($t->get($where, port => 'formats', headers => { 'Accept-Encoding' => $_ })->{headers}{etag},
            $plain->{headers}{etag}, "$_: not compressed") for 'gzip;q=0', 'br';
        my $zipped = $t->get($where, port => 'formats', headers => { 'Accept-Encoding' => 'gzip, deflate, br' });
        is($zipped->{headers}{'content-encoding'}, 'gzip', 'compressed for those who do');
        is($zipped->{headers}{'content-length'}, length $zipped->{body}, 'with its length');
        isnt($zipped->{headers}{etag}, $plain->{headers}{etag}, 'and a tag of its own');
        for my $answer ([ gzip => $zipped ], [ identity => $plain ]) {
            my ($coding, $tag) = ($answer->[0], $answer->[1]{headers}{etag});
            like($tag, qr/^"[^"]+"$/, "ETag, $coding");
            my $again = $t->get($where, port => 'formats',
                headers => { 'Accept-Encoding' => $coding, 'If-None-Match' => $tag });
            is($again->{status}, 304, "$coding: the same is not sent again");
        }
        ok(Compress::Zlib::memGunzip($zipped->{body}) eq $plain->{body}, 'once');    # which takes it away
    }
    is($t->get("/json$address{$name}", port => 'formats')->{headers}{'content-type'}, 'application/json',
        'where the directive names another format, there is none of it');
}
like($t->get("/auto$address{'page.js'}", port => 'formats')->{body}, qr/MIT License.*Permission is hereby granted/s,
    'the script has the licences of its parts');
for my $name ('page.js@1-00000000', 'page.js@', 'page.html', '', '../page.js', 'page.js%00') {
    my $none = $t->get("/auto?asset=$name", port => 'formats', headers => { Accept => $browser });
    is($none->{status}, 404, "an asset \"$name\" is not there");
    is($none->{headers}{'content-type'}, 'application/json', 'nor anything that a browser would run');
}

my $low = JSON::PP->new->utf8->decode($t->get('/low_json', port => 'formats')->{body});
my $account = $low->{zones}{hosts}{keys}{'one.test'};
is($account->{requests}, 9, 'detail=low has the counters');
is_deeply([ grep { /^by_/ } keys %$account ], [], 'and no breakdowns');
for my $case ([ '/json?detail=low', 0 ], [ '/low_json', 0 ], [ '/low_json?detail=full', 1 ],
    [ '/json?detail=full', 1 ], [ '/auto?format=json&detail=low', 0 ]) {
    my ($uri, $is_full) = @$case;
    my $found = JSON::PP->new->utf8->decode($t->get($uri, port => 'formats')->{body})->{zones}{hosts}{keys}{'one.test'};
    is(exists $found->{by_connection_order} ? 1 : 0, $is_full, "$uri: the argument decides");
}
unlike($t->get('/prometheus?detail=low', port => 'formats')->{body}, qr/_bucket/, 'detail=low for Prometheus');
like($t->get('/prometheus', port => 'formats')->{body}, qr/_bucket/, 'which is full without');
is($t->get('/closed', port => 'formats')->{status}, 403, 'deny works as for any location');

# A document that is read while everything changes
my @load = map { detached(sub { $t->get("/a.txt", host => "load$_.test") for 1 .. 150; 1 }) } 1 .. 2;
my $broken = 0;
for (1 .. 60) {
    my $now = eval { $t->status } or $broken++;
    my @faults = Test::RequestCpu::totals_faults($now->{workers} || []);
    $broken++ if @faults;
}
$_->result for @load;
is($broken, 0, 'under load, the document is always whole, and its worker totals add up');

$t->done;
