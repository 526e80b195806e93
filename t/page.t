# The live page in a headless Chromium, with real traffic.

use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use List::Util ();
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Browser;
use Time::HiRes qw(sleep time);

binmode Test::More->builder->$_, ':encoding(UTF-8)' for qw(output failure_output todo_output);

# More keys, to measure the speed of a browser: REQUEST_CPU_PAGE_KEYS=100000 prove t/page.t
my $many = $ENV{REQUEST_CPU_PAGE_KEYS} || 10_000;

my $missing = Test::RequestCpu::Browser->missing;
plan(skip_all => "no $missing, which this test drives") if $missing;

my $t = Test::RequestCpu->new->need('gzip', 'http_ssl');
my $dir = $t->dir;
$t->certificate(ecdsa => 'tls');
$t->html('small.txt', 'x' x 300);
$t->html('text.txt', words(60_000));
my $zone_kb = int($many * 1.6) + 200;
my $http = <<"EOC";
    request_cpu_zone \$http_x_key zone=domains:1m;
    request_cpu_zone \$arg_k zone=many:${zone_kb}k;
    request_cpu_zone \$arg_f zone=full:32k;
    request_cpu_zone \$http_x_plan zone=plans:1m;
    map \$http_x_plan \$cores { small 0.05; trial 0.01; free ""; default 10; }
    request_cpu_limit_log_level info;
    request_cpu zone=domains zone=many zone=full;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:{{port:http}};
        listen 127.0.0.1:{{port:tls}} ssl;
        ssl_certificate {{dir}}/tls.pem; ssl_certificate_key {{dir}}/tls.key;
        location / { gzip on; gzip_types *; gzip_comp_level 9; gzip_min_length 1000; }
        location = /no { access_log off; return 204; }
        location /plan/ {
            alias {{dir}}/html/; gzip on; gzip_types *; gzip_comp_level 9;
            request_cpu zone=plans;
            request_cpu_limit zone=plans cores=\$cores burst=20ms;
            location /plan/dry/ { alias {{dir}}/html/; request_cpu_limit zone=plans cores=\$cores burst=20ms dry_run; }
        }
        location = /cpu { request_cpu off; request_cpu_status; }
        location = /only { request_cpu off; access_log off; request_cpu_status format=html detail=low; }
        location = /slow { request_cpu off; access_log off; limit_rate 6m; request_cpu_status; }
    }
EOC
$t->start(main => 'worker_processes 2;', http => $http);

# Hostile keys that clients send
my %hostile = (
    markup => q{<img src=x onerror="document.title='owned'">},
    script => q{</td><script>document.title='owned'</script>},
    proto => '__proto__',
    member => 'constructor',
    quotes => q{"it's" &amp; `${this}`},
    url => 'a b+c%20d&zone=none#x?y=z',
    bytes => "caf\xc3\xa9 \xff\xfe",
    escaped => 'a\\x41b',
    turned => "moc.\xe2\x80\xaeelpmaxe",
    invisible => "exam\xe2\x80\x8bple.com\xc2\xa0",
    cut => "\xff" x 255,
);
sub ask {
    my ($key, $uri, %option) = @_;
    return $t->get($uri, %option, headers => { 'X-Key' => $key, 'Accept-Encoding' => 'gzip' });
}
ask($_, '/small.txt') for values %hostile;
ask('plain.test', '/small.txt') for 1 .. 30;
ask('heavy.test', '/text.txt') for 1 .. 10;
ask('errors.test', '/none') for 1 .. 3;
{
    my $connection = $t->connect('http');
    for (1 .. 6) { $connection->request('/small.txt', headers => { 'X-Key' => 'kept.test' }); $connection->response }
}

for (1 .. 3) {
    my ($status, $output) = run_command('curl', '-sk', '-o', '/dev/null', '-H', 'X-Key: tls.test',
        'https://127.0.0.1:' . $t->port('tls') . '/small.txt');
    die "curl: $output" if $status;
}

# Makes that many keys at once; there may be more keys than the zone has room for
sub fill {
    my ($argument, $n) = @_;
    my $connection = $t->connect('http');
    $connection->request('/no');
    my $length = length $connection->response->{raw};
    for (my $at = 0; $at < $n; $at += 500) {
        my $batch = List::Util::min(500, $n - $at);
        $connection->send(join '', map { $connection->request_text("/no?$argument=customer-$_.example") } $at .. $at
            + $batch - 1);
        $connection->read_bytes($batch * $length);
    }
}
fill(k => $many);
fill(f => 100);

my $page = Test::RequestCpu::Browser->new(dir => $dir);
diag($page->version);
my $begin = time;
sub part { diag(sprintf '%.1f s: %s', time - $begin, @_) if $ENV{TEST_VERBOSE} }
my $at = 'http://127.0.0.1:' . $t->port('http');
# Records the answers that the page got, and the largest number of requests that it waited for at the same time.
$page->cdp('Page.addScriptToEvaluateOnNewDocument', source => <<'EOC');
    window.seen = { docs: [], full: [], now: 0, most: 0, asked: 0 };
    const plainFetch = window.fetch;
    window.fetch = async (...what) => {
        const s = window.seen;
        s.asked++;
        s.most = Math.max(s.most, ++s.now);
        try {
            const answer = await plainFetch(...what);
            const text = await answer.text();
            return { ok: answer.ok, status: answer.status, json: async () => {
                const doc = JSON.parse(text);
                // as a module that knew nothing of them
                if (s.older) for (const zone of Object.values(doc.zones))
                    for (const account of Object.values(zone.keys))
                    for (const name of ["limit", "billable_cpu_ns", "waived_cpu_ns", "windows"]) delete account[name];
                const list = String(what[0]).includes("detail=full") ? s.full : s.docs;
                list.push(doc);
                if (list.length > 3) list.shift();
                return doc;
            } };
        } finally { s.now-- }
    };
EOC

my (@console, @requests);
sub console { push @console, $page->console; push @requests, $page->requests }

# The rows in the DOM: [ [ text of each cell ], … ]
my $rows = q{[...document.querySelectorAll("#table tbody tr:not(.spacer)")].map(tr => [...tr.cells].map(td => td.textContent))};
sub rows { return @{ $page->js($rows) } }
# Makes the page poll faster than it would, so that the test takes less time.
sub hurry {
    $page->js('const i = document.getElementById("interval"); i.add(new Option("", "300")); i.value = "300"; i.dispatchEvent(new Event("change")); return 1');
}
sub live { return $page->wait_for(10, 'document.body.dataset.state === "live"') && hurry() }
sub polled {
    my ($n) = @_;
    my $was = $page->js('seen.asked');
    $page->wait_for(20, "seen.asked >= $was + " . ($n || 2) . ' && seen.now === 0');
}
sub open_page {
    my ($path) = @_;
    $page->go('about:blank');    # an address that differs in its fragment only would not be loaded anew
    $page->go("$at$path");
    return live();
}

ok(open_page('/cpu'), 'a browser gets the page, and it is live') or diag($page->console);
is($page->js('document.title'), 'CPU by domain', 'title');

part('numbers');
# ---- numbers ----

sub figure {
    my ($value) = @_;
    return '0' if $value == 0;
    return '<0.00001' if $value < 0.000005;
    if ($value < 0.9995) {
        my $d = 2 - POSIX::floor(log($value) / log 10);
        return sprintf '%.*f', $d > 5 ? 5 : $d, $value;
    }
    return sprintf '%.2f', $value if $value < 9.995;
    return sprintf '%.1f', $value if $value < 99.95;
    return grouped($value);
}
sub grouped { my $n = sprintf '%.0f', $_[0]; 1 while $n =~ s/^(\d+)(\d{3})/$1,$2/; return $n }
sub duration {
    my ($ns) = @_;
    return '0' if $ns == 0;
    return sprintf '%.0f ns', $ns if $ns < 999.5;
    for (['µs', 1e3], ['ms', 1e6]) { return figure($ns / $_->[1]) . " $_->[0]" if $ns < 999.5 * $_->[1] }
    return figure($ns / 1e9) . ' s';
}
# Compares two figures, with room for the rounding of another language.
sub same {
    my ($have, $want) = map { s/[,% µm]|[a-z]+$//gr } @_;
    return $_[0] eq $_[1] || ($have =~ /^[\d.]+$/ && $want =~ /^[\d.]+$/ && abs($have - $want) <= 0.011 * $want + 1e-5);
}

# Compares rows of figures in the same way: a value exactly between two figures is rounded up by one language and down
# by the other.
sub same_rows {
    my ($have, $want, $name) = @_;
    my @have = map { my $i = $_;
        [ map { same($have->[$i][$_], $want->[$i][$_] // '') ? $want->[$i][$_]
            : $have->[$i][$_] } 0 .. $#{ $have->[$i] } ] } 0 .. $#$have;
    return is_deeply(\@have, $want, $name);
}

# Totals: nothing is in flight in this zone, so the endpoint gives the same figures at any time.
$page->click('#span-total');
polled();
my $keys = $t->status('zone=domains')->{zones}{domains}{keys};
my %shown = map { $_->[0] => $_ } rows();
my %visible = %$keys;
is(scalar(grep { /[\x{202e}\x{200b}\x{a0}]/ } keys %shown), 0, 'no row has a character that is hidden');
is_deeply([ sort keys %shown ], [ sort keys %visible ], 'every key has a row, as text');
my ($all, $wrong) = (sum(map { $_->{cpu_ns} } values %$keys), 0);
for my $key (sort keys %visible) {
    my $account = $visible{$key};
    my @want = ($key, figure($account->{cpu_ns} / 1e9), sprintf('%.1f %%', 100 * $account->{cpu_ns} / $all),
        grouped($account->{requests}),
        duration($account->{cpu_ns} / $account->{requests}), figure($account->{sent_bytes} / 1e6),
        figure($account->{cpu_ns} / $account->{sent_bytes}), $account->{in_flight});
    for my $i (0 .. $#want) {
        next if same($shown{$key}[$i] // '', $want[$i]) || ($i == 2 && $account->{cpu_ns} / $all < 0.001);
        $wrong++;
        diag("$key, column $i: $shown{$key}[$i], not $want[$i]");
    }
}
is($wrong, 0, 'totals are those of the endpoint');
is($page->js('document.title'), 'CPU by domain', 'and no key is taken for markup');
is($page->js('document.querySelectorAll("#table img, #table script").length'), 0, 'not at all');

# Rates: compared with the two answers that the page computes them from
$page->click('#span-now');
my $load = detached(sub {
    my $end = time + 3.5;
    while (time < $end) { ask('heavy.test', '/text.txt'); ask('plain.test', '/small.txt') for 1 .. 5; sleep 0.01 }
    return 1;
});
sleep 0.8;
polled(3);
my $moment = $page->js(qq{return { rows: $rows, docs: seen.docs.slice(-2).map(({ time, zones, workers }) =>
    ({ time, workers, ms: Date.parse(time), keys: zones.domains.keys })),
    workers: [...document.querySelectorAll("#workers li")].map(li => li.getAttribute("aria-label")),
    tiles: [...document.querySelectorAll(".tile b")].map(b => b.textContent) }});
my ($before, $after) = @{ $moment->{docs} };
my $ns = ($after->{ms} - $before->{ms}) * 1e6;
%shown = map { $_->[0] => $_ } @{ $moment->{rows} };
$wrong = 0;
my $rate = sub { my ($key, $what) = @_; return $after->{keys}{$key}{$what} - $before->{keys}{$key}{$what} };
for my $key (qw(heavy.test plain.test errors.test)) {
    my ($cpu, $requests, $bytes) = map { $rate->($key, $_) } qw(cpu_ns requests sent_bytes);
    my @want = (figure($cpu / $ns), undef, figure($requests * 1e9 / $ns), $requests ? duration($cpu / $requests) : '–',
        figure($bytes * 1e3 / $ns), $bytes ? figure($cpu / $bytes) : '–');
    for my $i (0 .. $#want) {
        next if !defined $want[$i] || same($shown{$key}[ $i + 1 ], $want[$i]);
        $wrong++;
        diag("$key, column " . ($i + 1) . ": $shown{$key}[$i + 1], not $want[$i]");
    }
}
is($wrong, 0, 'rates are differences of the counters over the time that the endpoint tells');
cmp_ok($rate->('heavy.test', 'requests'), '>', 0, '(of real traffic)');
is($shown{'heavy.test'}[0], $moment->{rows}[0][0], 'the most expensive domain is the first row');
cmp_ok($shown{'heavy.test'}[2] =~ s/ %//r, '>', 50, 'with most of the CPU');
my %books = map { $_->{pid} => $_ } @{ $before->{workers} };
my $cores = sum(map { ($_->{thread_cpu_ns} - $books{ $_->{pid} }{thread_cpu_ns}) / $ns } @{ $after->{workers} });
ok(same($moment->{tiles}[0], figure($cores)), 'cores of the workers') or diag("$moment->{tiles}[0], not $cores");
for my $worker (@{ $after->{workers} }) {
    my $was = $books{ $worker->{pid} };
    my ($told) = grep { /process $worker->{pid}\b/ } @{ $moment->{workers} };
    my %part = map { $_ => figure(($worker->{"${_}_ns"} - $was->{"${_}_ns"}) / $ns) } qw(charged no_request loop other);
    like($told // '', qr/charged \Q$part{charged}\E, no request \Q$part{no_request}\E, loop \Q$part{loop}\E, other \Q$part{other}\E/,
        "worker $worker->{worker}: how its CPU divides");
}
like($page->js('document.querySelector("#top-chart .plot").getAttribute("aria-label")'), qr/heavy\.test [\d.]+/,
    'the chart of domains is told in words');
like($page->js('document.querySelector("#books-chart .plot").getAttribute("aria-label")'),
    qr/charged [\d.]+, no request/, 'that of the workers too');
cmp_ok($page->js(q{(() => { const c = document.querySelector("#top-chart canvas");
    const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
    const colours = new Set(); for (let i = 0; i < d.length; i += 4)
        if (d[i + 3] > 200) colours.add(d[i] + "," + d[i + 1] + "," + d[i + 2]); return colours.size; })()}),
    '>', 2, 'and drawn');

part('sorts, filters');
# ---- sorts, filters ----

sub column { my ($i) = @_; return map { $_->[$i] } rows() }
my %unit = ('ns' => 1, 'µs' => 1e3, 'ms' => 1e6, 's' => 1e9);
sub value {
    my ($text) = @_;
    $text =~ /^([\d.,<]+)\s*(\S*)/ or return -1;
    my ($n, $u) = ($1, $2);
    $n =~ tr/,<//d;
    return $n * ($unit{$u} || 1);
}
$load->result;
$page->click('#span-total');
my @columns = qw(cpu share req cpr mb spg fly);
# All clicks in one script, because single clicks would take long: [ order, column, order, column ] for each.
my $sorted = $page->js(<<'EOC', \@columns);
    return arguments[0].map((name, i) => {
        const button = document.querySelector(`[data-sort="${name}"]`);
        const look = () => [button.parentElement.ariaSort,
            document.querySelectorAll("[aria-sort=ascending], [aria-sort=descending]").length,
            [...document.querySelectorAll("#table tbody tr:not(.spacer)")].map(tr => tr.cells[i + 1].textContent)];
        // the table is sorted by the first one already
        if (i > 0) button.click();
        const down = look();
        button.click();
        return [down, look()];
    });
EOC
for my $i (0 .. $#columns) {
    my ($down, $up) = map { [ $_->[0], $_->[1], join ' ', map { value($_) } @{ $_->[2] } ] } @{ $sorted->[$i] };
    my @values = sort { $a <=> $b } split / /, $up->[2];
    is_deeply($down, [ 'descending', 1, join ' ', reverse @values ], "$columns[$i]: sorted, with the largest first");
    is_deeply($up, [ 'ascending', 1, "@values" ], 'or the smallest');
}
$page->click('[data-sort="key"]');
is((column(0))[-1], 'tls.test', 'by name');
$page->type('#search', 'TEST');
is_deeply([ column(0) ], [qw(errors.test heavy.test kept.test plain.test tls.test)], 'search');
is($page->text('#found'), '5 of ' . keys(%$keys) . ' domains', 'says how many it has found');
$page->type('#search', '?<b>');
is($page->text('#none-found'), 'No domain contains “TEST?<b>”.', 'or that there is none');
$page->press('Escape');
is(scalar rows(), scalar keys %$keys, 'Escape ends it');

part('one domain');
# ---- one domain ----

sub chosen {
    my ($key) = @_;
    return $page->wait_for(10,
        '!document.getElementById("detail-body").hidden && document.getElementById("detail-key").textContent === arguments[0]', $key);
}
sub pick {
    my ($key) = @_;
    $page->js('return [...document.querySelectorAll(".pick")].find(b => b.textContent === arguments[0]).click()', $key);
    return ok(chosen($key), "$key is chosen") || diag($page->text('#detail'));
}
for my $name (sort keys %hostile) {
    my $raw = $hostile{$name};
    my ($row) = grep {
        my $text = $_;
        $name eq 'bytes' ? $text =~ /^café/ : $name eq 'escaped' ? $text =~ /41b$/ : $name eq 'turned' ? $text =~ /^moc/
            : $name eq 'invisible' ? $text =~ /^exam.*ple/ : $name eq 'cut' ? $text =~ /\.\.\.[0-9a-f]{32}$/
            : $text eq $raw
    } map { $_->[0] } rows();
    ok(defined $row, "$name: has a row") or next;
    pick($row);
    like($page->text('#detail-tiles'), qr/In all1 requests/, 'with its figures');
}
is($page->js('document.title'), 'CPU by domain', 'none of them is taken for markup');

pick('kept.test');
my $kept = $t->status('zone=domains&key=kept.test&detail=full')->{zones}{domains}{keys}{'kept.test'};
my $means = q{[...document.querySelectorAll(arguments[0] + " tbody tr")].map(tr => [...tr.cells].map(td => td.textContent).filter(text => text !== ""))};
my %order = (1 => 'first', 2 => 'second', 3 => 'third', '4+' => 'fourth and later');
my $of = sub { my ($part) = @_; return [ duration($part->{cpu_ns} / $part->{requests}), grouped($part->{requests}) ] };
same_rows($page->js($means, '#by-order'),
    [ map { [ $order{$_}, @{ $of->($kept->{by_connection_order}{$_}) } ] } 1, 2, 3, '4+' ],
    'by order in the connection');
same_rows($page->js($means, '#by-cache'), [ [ 'no cache', @{ $of->($kept->{by_cache_status}{NONE}) } ] ],
    'by cache status');
same_rows($page->js($means, '#by-size'), [ [ 'to 1 KiB', @{ $of->($kept->{by_response_size}{'1k'}) } ] ],
    'by response size');
my $below = 0;
my @bars = grep { $_->[1] }
    map { my $n = $_->{requests} - $below; $below = $_->{requests}; [ $_->{le_ns}, $n ] } @{ $kept->{by_request_cpu} };
my $bars = $page->js(q{[...document.querySelectorAll("#histogram-table tbody tr")].map(tr => [...tr.cells].map(td => td.textContent))});
is_deeply([ map { [ value($_->[0] =~ s/^up to //r), $_->[1] ] } grep { $_->[1] ne '0' } @$bars ],
    [ map { [ $_->[0], "$_->[1]" ] } @bars ], 'the histogram');
ok($page->js('document.getElementById("by-tls").hidden'), 'no handshakes, no figure of them');
like($page->js('location.hash'), qr/key=kept\.test/, 'the address tells of it');
pick('tls.test');
my $tls = $t->status('zone=domains&key=tls.test')->{zones}{domains}{keys}{'tls.test'}{tls_handshakes}{new};
same_rows($page->js($means, '#by-tls'), [ [ 'new session', duration($tls->{cpu_ns} / $tls->{handshakes}), '3' ] ],
    'TLS handshakes');
pick('kept.test');

part('keyboard');
# ---- keyboard ----

$page->js('return document.querySelector("#search").focus()');
$page->press('Tab');    # from the search to the column headings, over them, and to a row
my $reached = wait_until(60,
    sub { $page->press('Tab'); return $page->js('document.activeElement.className') eq 'pick' });
ok($reached, 'Tab leads to the rows');
my $focus = 'document.activeElement.textContent';
my @names = column(0);
$page->press('Home');
is($page->js($focus), $names[0], 'Home: the first row');
$page->press('Down', 'Down');
is($page->js($focus), $names[2], 'arrow keys go from row to row');
is($page->js('document.querySelectorAll(".pick[tabindex=\"0\"]").length'), 1, 'and Tab leads to one of them only');
isnt($page->js('getComputedStyle(document.activeElement).outlineStyle'), 'none', 'the focus can be seen');
polled();
is($page->js($focus), $names[2], 'it stays when figures come');
$page->press('Enter');
ok(chosen($names[2]), 'Enter chooses');
$page->press('End');
is($page->js($focus), $names[-1], 'End: the last row');
$page->press('Escape');
ok($page->js('document.getElementById("detail").hidden'), 'Escape closes the domain');
$page->press('/');
is($page->js('document.activeElement.id'), 'search', '/ searches');

part('links');
# ---- links ----

ok(open_page('/cpu#zone=domains&sort=req&dir=asc&q=test&key=heavy.test&span=total'), 'a link');
ok(chosen('heavy.test'), 'has the domain');
is($page->js('document.querySelector("[data-sort=req]").parentElement.ariaSort'), 'ascending', 'the order');
is(scalar rows(), 5, 'the search');
is($page->js('document.getElementById("search").value'), 'test', 'shown as well');
is($page->js('document.getElementById("span-total").ariaPressed'), 'true', 'and the span');
ok(open_page('/cpu?zone=domains&key=plain.test'), 'arguments of the endpoint');
ok(chosen('plain.test'), 'choose a domain too');
ok(open_page('/cpu#zone=nowhere'), 'a zone that is not there');
is($page->text('#empty'), 'There is no zone "nowhere".', 'is said to be missing');
ok(open_page('/cpu#zone=domains&key=nobody.test'), 'a key that is not there');
ok($page->wait_for(5,
    q{document.getElementById("detail-message").textContent.includes("no account in the zone") && !document.getElementById("detail-message").hidden}), 'too');
ok(open_page('/only'), 'a directive with format=html works too');

part('zones');
# ---- zones ----

# Chooses a zone by typing its name. A browser adds letters that come within a second to the word before, and then
# chooses nothing.
sub zone {
    my ($name) = @_;
    wait_until(60, sub {
        $page->type('#zone', $name);
        return 1 if $page->js('document.getElementById("zone").value === arguments[0]', $name);
        sleep 1.1;
        return;
    });
    return polled();
}
open_page('/cpu');
zone('full');
my $full = $t->status('zone=full')->{zones}{full};
is($page->text('#tile-fill b'), $full->{accounts}, 'fill of a zone');
like($page->text('#tile-fill'), qr/of $full->{capacity} accounts/, 'of how many');
like($page->text('#full'), qr/^$full->{overflowed} requests found this zone full/, 'and requests that found it full');
ok((grep { $_ eq '*' } column(0)), 'there is a row for it');

zone('many');
ok($page->wait_for(30, 'document.querySelector("#found").textContent === arguments[0]', grouped($many) . ' domains'),
    "$many rows")
    or diag($page->text('#found'));
my $elements = $page->js('document.querySelectorAll("#table tr").length');
cmp_ok($elements, '<', 100, 'of which those are in the document that can be seen');
is($page->js('document.getElementById("table").ariaRowCount ?? document.getElementById("table").getAttribute("aria-rowcount")'),
    $many + 1, 'which knows of the others');
polled();
ok($page->js('seen.docs.at(-1) && Object.keys(seen.docs.at(-1).zones).join()') eq 'many',
    'a large zone is asked for alone');
$page->js('return document.querySelector("[data-sort=key]").click()');
$page->js('const rows = document.getElementById("rows"); rows.scrollTop = rows.scrollHeight; return 1');
ok($page->wait_for(5,
    qq{[...document.querySelectorAll(".pick")].some(b => b.textContent === "customer-@{[ $many - 1 ]}.example")}),
    'scrolled to the last');
$page->js('return document.querySelector("#rows .pick").focus()');
$page->press('Home');
is($page->js($focus), 'customer-0.example', 'and to the first, by keys');
$page->press('End');
is($page->js($focus), 'customer-' . ($many - 1) . '.example', 'and back');
my %took = map { $_->{name} =~ s/request_cpu //r => $_->{duration} } @{
    $page->js('performance.getEntriesByType("measure").map(({ name, duration }) => ({ name, duration }))') };
$page->js('return document.querySelector("[data-sort=cpu]").click()');
polled();
my %by_cpu = map { $_->{name} =~ s/request_cpu //r => $_->{duration} } @{
    $page->js('performance.getEntriesByType("measure").map(({ name, duration }) => ({ name, duration }))') };
my $started = time;
$page->type('#search', 'customer-77');
like($page->text('#found'), qr/^[\d,]+ of /, 'search among them');
my $typing = time - $started;
diag(sprintf '%d keys: an answer takes %.0f ms to come, %.0f ms to take in, %.0f ms to show by cores, %.0f ms by name; eleven letters of a search %.0f ms in all',
    $many, $by_cpu{answer}, $by_cpu{take}, $by_cpu{show}, $took{show}, 1e3 * $typing);

part('limits');
# ---- limits ----

open_page('/cpu#zone=domains&key=plain.test');
chosen('plain.test');
my $headings = q{[...document.querySelectorAll("#table thead button")].map(b => b.dataset.sort).join(" ")};
is($page->js($headings), 'key cpu share req cpr mb spg fly', 'where no domain has a limit, there is no column of it');
ok($page->js('document.getElementById("limits").hidden && document.getElementById("limit").hidden'),
    'nor anything else');
sub ask_plan {
    my ($plan, $dry) = @_;
    return $t->get('/plan/' . ($dry ? 'dry/' : '') . 'text.txt',
        headers => { 'X-Plan' => $plan, 'Accept-Encoding' => 'gzip' });
}
ask_plan($_->[0], $_->[1]) for [ 'small' ], [ 'large' ], [ 'trial', 1 ], [ 'free' ];
$load = detached(sub {
    my $end = time + 6;
    while (time < $end) {
        ask_plan("small") for 1 .. 4;
        ask_plan("large");
        ask_plan("trial", 1);
        ask_plan("free");
        sleep 0.01;
    }
    return 1;
});
zone('plans');
polled(4);
is($page->js($headings), 'key cpu share lim use ref dry req cpr mb spg fly', 'where one has, there are');
$moment = $page->js(qq{return { rows: $rows, docs: seen.docs.slice(-2).map(({ time, zones }) =>
    ({ ms: Date.parse(time), keys: zones.plans.keys })),
    debt: [...document.querySelectorAll("td.debt")].map(td => td.parentElement.cells[0].textContent),
        told: document.getElementById("limits").innerText }});
($before, $after) = @{ $moment->{docs} };
$ns = ($after->{ms} - $before->{ms}) * 1e6;
%shown = map { $_->[0] => $_ } @{ $moment->{rows} };
$wrong = 0;
for my $plan (qw(small large trial free)) {
    my ($old, $new) = map { $_->{keys}{$plan} } $before, $after;
    my @want = ('–') x 4;
    if ($new->{limit}) {
        my ($was, $is) = map { $_->{limit} } $old, $new;
        my $used = $new->{cpu_ns} - $old->{cpu_ns}
            - sum(map { $is->{$_} - $was->{$_} } qw(refused_cpu_ns refused_dry_run_cpu_ns));
        @want = (figure($is->{cores}), sprintf('%.1f %%', 100 * $used / $ns / $is->{cores}),
            map { figure(($is->{$_} - $was->{$_}) * 1e9 / $ns) } qw(refused refused_dry_run));
    }
    for my $i (0 .. 3) {
        next if same($shown{$plan}[ $i + 3 ], $want[$i]);
        $wrong++;
        diag("$plan, column " . ($i + 3) . ": $shown{$plan}[$i + 3], not $want[$i]");
    }
}
is($wrong, 0, 'limits, their use without refused requests, refusals and those of dry_run apart');
cmp_ok($after->{keys}{small}{limit}{refused} - $before->{keys}{small}{limit}{refused}, '>', 0, '(some were refused)');
ok(!$after->{keys}{free}{limit}, '(and one has no limit)');
is_deeply([ sort @{ $moment->{debt} } ], [qw(small trial)], 'who is beyond its limit is marked');
is($moment->{told} =~ s/\s+/ /gr, '2 of 3 limited domains beyond their limits: small trial (dry run)',
    'and told above the charts');
for my $column (qw(lim use ref dry)) {
    my $at = { lim => 3, use => 4, ref => 5, dry => 6 }->{$column};
    my $found = $page->js(<<'EOC', $column, $at);
        const [column, at] = arguments;
        const button = () => document.querySelector(`[data-sort="${column}"]`);
        return [0, 1].map(() => { button().click();
            return [button().parentElement.ariaSort, [...document.querySelectorAll("#table tbody tr:not(.spacer)")]
                .map(tr => tr.cells[at].textContent)] });
EOC
    my @values = map { [ map { value($_) } @{ $_->[1] } ] } @$found;
    my ($down, $up) = map { [ grep { $_ >= 0 } @$_ ] } @values;
    is_deeply([ $found->[0][0], $down, $values[0][-1] ], [ 'descending', [ sort { $b <=> $a } @$down ], -1 ],
        "$column: sorted, those without a limit last");
    is_deeply([ $found->[1][0], $up, $values[1][-1] ], [ 'ascending', [ sort { $a <=> $b } @$up ], -1 ],
        'the other way too');
}
$page->js('return document.querySelector("#limits button").click()');
ok(chosen('small'), 'a domain that is told of can be chosen');
my $figures = q{(() => { const s = {}; for (const div of document.querySelectorAll(arguments[0] + " dl > div")) s[div.querySelector("dt").textContent] = div.querySelector("dd").textContent; return s })()};
my $detail = $page->js(qq{const of = $figures; return { figures: of, bar: document.querySelector("#limit-use").getAttribute("aria-label"), told: document.getElementById("limit-told").textContent, full: seen.full.at(-1).zones.plans.keys.small }}, '#limit');
my $full_limit = $detail->{full}{limit};
is_deeply([ @{ $detail->{figures} }{'Limit', 'Burst', 'Refused in all'} ],
    [ '0.0500 cores', '20.0 ms', grouped($full_limit->{refused}) . ' requests, '
        . duration($full_limit->{refused_cpu_ns}) . ' of CPU' ], 'its limit, and its refusals');
ok(!exists $detail->{figures}{'Dry run/s'}, 'nothing of dry_run, where there is none');
like($detail->{bar}, qr/^[\d.]+ % of the limit used$/, 'the bar has words');
like($detail->{told}, $full_limit->{debt_ns} ? qr/^In debt: \Q@{[duration($full_limit->{debt_ns})]}\E of CPU, paid in /
    : qr/ cores used; no debt\.$/, 'its debt');
pick('trial');
like($page->js($figures, '#limit')->{'Dry run in all'}, qr/^\d+ requests, /, 'another one, with dry_run');
for ([ 390, 844 ], [ 1440, 900 ]) {
    $page->size(@$_, mobile => $_->[0] < 500);
    sleep 0.2;
    cmp_ok($page->js('document.documentElement.scrollWidth'), '<=', $page->js('document.documentElement.clientWidth'),
        "nothing sticks out at a width of $_->[0]");
}
$load->result;
$page->click('#span-total');
polled(2);
my $plans = $t->status('zone=plans')->{zones}{plans}{keys};
%shown = map { $_->[0] => $_ } rows();
is_deeply([ map { [ @{ $shown{$_} }[ 5, 6 ] ] } qw(small large trial) ],
    [ map { my $l = $plans->{$_}{limit};
        [ map { grouped($l->{$_}) } qw(refused refused_dry_run) ] } qw(small large trial) ],
    'refusals in all');
ok($page->wait_for(10, '!document.querySelector("#limits").classList.contains("debt")'), 'debts end')
    or diag($page->text('#limits'));
like($page->js('document.getElementById("limits").innerText.replace(/\\s+/g, " ")'),
    qr/^0 of 3 limited domains beyond their limits$/, 'which is told');
zone('domains');
is($page->js($headings), 'key cpu share req cpr mb spg fly', 'another zone has none of these columns');
ok($page->js('document.getElementById("limits").hidden'), 'nor is anything told of limits');

part('billing metrics');
# ---- billing metrics ----

open_page('/cpu#zone=domains&key=heavy.test');
chosen('heavy.test');
polled(2);
my $charge = $page->js(qq{const of = $figures; return { figures: of,
    bar: document.getElementById("charge-cpu").getAttribute("aria-label"),
        parts: [...document.querySelectorAll("#charge-cpu span")].map(s => parseFloat(s.style.width)),
    windows: [...document.querySelectorAll("#windows tbody tr")].map(tr => [...tr.cells].map(td => td.textContent)),
        full: seen.full.at(-1).zones.domains.keys["heavy.test"] }}, '#charge');
my $heavy = $charge->{full};
ok(defined $heavy->{$_}, "the status has $_")
    for qw(duration_ms active_ms active_seconds billable_cpu_ns waived_cpu_ns memory_byte_ms gb_seconds peak_cores windows);
ok(same($charge->{figures}{ $_->[0] }, $_->[1]), "$_->[0]") or diag("$charge->{figures}{$_->[0]}, not $_->[1]")
    for [ 'Requests', grouped($heavy->{requests}) ], [ 'Duration', duration($heavy->{duration_ms} * 1e6) ],
    [ 'Active interval', duration($heavy->{active_ms} * 1e6) ],
    [ 'Active seconds', grouped($heavy->{active_seconds}) ], [ 'GB-seconds', figure($heavy->{gb_seconds}) ],
    [ 'Peak cores', figure($heavy->{peak_cores}) ];
my $running = $heavy->{cpu_ns} - $heavy->{billable_cpu_ns} - $heavy->{waived_cpu_ns};
my @told = map { duration($_) } $heavy->{billable_cpu_ns}, $heavy->{waived_cpu_ns}, $running;
is($charge->{bar}, "CPU: billable $told[0], waived $told[1], running second $told[2]", 'how its CPU divides');
my @parts = map { 100 * $_ / $heavy->{cpu_ns} } $heavy->{billable_cpu_ns}, $heavy->{waived_cpu_ns}, $running;
is(scalar(grep { abs($charge->{parts}[$_] - $parts[$_]) > 0.01 } 0 .. 2), 0, 'and so does the bar')
    or diag("@{ $charge->{parts} }, not @parts");
is_deeply($charge->{windows},
    [ map { my $w = $heavy->{windows}{ s/ //r };
        [ $_, map { figure($w->{$_}) } qw(in_flight requests_per_second cores) ] } '6 s', '60 s' ], 'the windows');
$page->js('return seen.older = true');
polled(2);
ok($page->wait_for(5, 'document.getElementById("charge").hidden'),
    'of a module that does not say it, nothing is shown');
ok(!$page->js('document.getElementById("detail-body").hidden'), 'and the rest is');

part('pauses, slow answers, hidden tabs');
# ---- pauses, slow answers, hidden tabs ----

open_page('/cpu');
$page->click('#pause');
$page->wait_for(40, 'seen.now === 0');
my $asked = $page->js('seen.asked');
sleep 0.8;
is($page->js('seen.asked'), $asked, 'nothing is asked for in a pause');
is($page->text('#state'), 'Paused', 'which is said');
$page->click('#pause');
ok($page->wait_for(10, "seen.asked > $asked"), 'and ends');

my $tab = $page->_do(GET => '/window');
my $other = $page->_do(POST => '/window/new', { type => 'tab' })->{handle};
$page->_do(POST => '/window', { handle => $other });
sleep 0.3;
sub asked { return scalar grep { $_->{uri} =~ m{^/cpu\?} } $t->log_lines }
my $hidden = asked();
sleep 1;
is(asked(), $hidden, 'nor by a tab that is not looked at');
$page->_do(DELETE => '/window');
$page->_do(POST => '/window', { handle => $tab });
$page->js('document.hidden');
ok(wait_until(60, sub { asked() > $hidden }), 'until it is') or diag($page->js('document.visibilityState'));

open_page('/slow#zone=many');
for my $n (2, 3) {
    $page->wait_for(30, "seen.asked >= $n && seen.now === 1");
    hurry() for 1 .. 2;
}
$page->wait_for(30, 'seen.asked >= 4');
is($page->js('seen.most'), 1, 'slow answers are waited for: there is one at a time');

part('looks');
# ---- looks ----

open_page('/cpu#zone=domains&key=heavy.test');
chosen('heavy.test');
my $back = 'getComputedStyle(document.documentElement).backgroundColor';
my %back;
for my $scheme (qw(light dark)) { $page->prefer($scheme); $back{$scheme} = $page->js($back) }
isnt($back{light}, $back{dark}, 'light and dark as the system has it');
$page->_do(POST => '/element/' . $page->find('#theme') . '/value', { text => 'light' });
is($page->js($back), $back{light}, 'or as it is chosen');
$page->_do(POST => '/element/' . $page->find('#theme') . '/value', { text => 'auto' });
for ([ 390, 844 ], [ 820, 1180 ], [ 1440, 900 ], [ 1920, 1080 ]) {
    my ($width, $height) = @$_;
    $page->size($width, $height, mobile => $width < 500);
    sleep 0.2;
    cmp_ok($page->js('document.documentElement.scrollWidth'), '<=', $page->js('document.documentElement.clientWidth'),
        "nothing sticks out at a width of $width");
}
$page->size(1440, 900);

# The accessibility tree
my @nodes = grep { !$_->{ignored} } @{ $page->cdp('Accessibility.getFullAXTree')->{nodes} };
my $role = sub { my ($role) = @_; return grep { ($_->{role}{value} // '') eq $role } @nodes };
my @nameless = grep { ($_->{name}{value} // '') eq '' }
    map { $role->($_) } qw(button combobox searchbox textbox link img image table meter);
is_deeply([ map { $_->{role}{value} } @nameless ], [], 'everything that can be used, and each picture, has a name');
for my $expected (qw(heading main banner contentinfo table rowheader columnheader status region)) {
    ok(scalar $role->($expected), "there is a $expected");
}
is($page->js('document.documentElement.lang'), 'en', 'the language is told');
is($page->js('document.querySelectorAll("h1").length'), 1, 'one title');
is($page->js('new Set([...document.querySelectorAll("[id]")].map(e => e.id)).size === document.querySelectorAll("[id]").length'),
    1, 'identifiers are there once');
console();

part('a reload');
# ---- a reload ----

open_page('/cpu#zone=domains');
$load = detached(sub { my $end = time + 4;
    while (time < $end) { ask('plain.test', '/small.txt'); sleep 0.005 } return 1 });
polled(3);
ok($t->reload, 'NGINX reloads');
ok($page->wait_for(10, q{document.getElementById("notices").textContent.includes("new workers")}), 'the page says so');
polled(2);
is($page->text('#state'), 'Live', 'and goes on');
unlike($page->text('#notices'), qr/anew/, 'with the same counters');
my $rates = $page->js(qq{return { rows: $rows, docs: seen.docs.slice(-2).map(({ time, zones }) => ({ ms: Date.parse(time), account: zones.domains.keys["plain.test"] })) }});
my ($row) = grep { $_->[0] eq 'plain.test' } @{ $rates->{rows} };
my ($was, $is) = @{ $rates->{docs} };
ok(same($row->[3], figure(($is->{account}{requests} - $was->{account}{requests}) * 1e3 / ($is->{ms} - $was->{ms}))),
    'rates are right') or diag("@$row");
$load->result;
console();
is_deeply([ grep { !/favicon/ } @console ], [], 'no word in the console so far');

part('a server that is gone');
# ---- an unreachable server ----

my $port = $t->port('http');
my @kept = rows();
is($t->stop, 0, 'the server stops');
ok($page->wait_for(15, 'document.body.dataset.state === "gone"'), 'the page notices');
like($page->text('#gone-text'), qr/^No answer since \d\d:\d\d:\d\d: the server cannot be reached\./,
    'and says since when');
is(scalar rows(), scalar @kept, 'the last figures stay');
is($page->js('getComputedStyle(document.getElementById("gone")).display !== "none"'), 1, 'with a message');
my $tries = $page->js('seen.asked');
sleep 2;
cmp_ok($page->js('seen.asked') - $tries, '<=', 2, 'it tries again, but not all the time');
# each failed attempt doubles the wait, so the page does not poll before the button is tried
for my $try (1 .. 5) {
    my $asked = $page->js('seen.asked');
    $page->click('#retry');
    ok($page->wait_for(10, 'seen.asked > arguments[0]', $asked), "the button asks at once, $try");
}
console();
@console = grep { !/ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED/ } @console;
$t->start(main => 'worker_processes 2;', http => $http);
ask('plain.test', '/small.txt') for 1 .. 2;
$page->click('#retry');
ok($page->wait_for(15, 'document.body.dataset.state === "live"'), 'it finds the server again');
ok($page->wait_for(10, q{document.getElementById("notices").textContent.includes("counters restarted")}),
    'and says that the counters began again');
ok($page->wait_for(10, 'document.getElementById("gone").hidden'), 'the message is gone');
# a poll may show a message over the button at that very moment
for (1 .. 3) {
    $page->click('#span-total');
    last if $page->wait_for(2, 'document.getElementById("span-total").ariaPressed === "true"');
}
ok($page->wait_for(10,
    qq{(() => { const r = $rows; return r.length === 1 && r[0][0] === "plain.test" && r[0][3] === "2" })()}),
    'the figures are from then on')
    or diag(join "\n", map { "@$_" } rows());
console();
is_deeply([ grep { !/ERR_CONNECTION_REFUSED/ } @console ], [], 'no word in the console but that the server was gone');

part('no network but the endpoint');
# ---- no requests but to the endpoint ----

my @elsewhere = grep { !m{^\Q$at\E/(?:cpu|only|slow)(?:[?#]|$)} && !m{^(?:data|about|chrome):} } @requests;
is_deeply(\@elsewhere, [], 'nothing was asked for but the endpoint') or diag("@elsewhere");
cmp_ok(scalar @requests, '>', 20, '(and that often)');

$page->end;
$t->done(query => 'zone=domains');
