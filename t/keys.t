# Keys of any kind.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Encode qw(decode encode);
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
$t->html('a.txt', "plain\n");
$t->start(http => <<"EOC");
    map \$uri \$tail { "~*^/k/(?<captured>(?s).*)\$" \$captured; default ""; }
    large_client_header_buffers 4 16k;
    request_cpu_zone \$tail zone=tails:1m;
    request_cpu_zone "\$host:\$request_method/\$arg_a" zone=mixed:1m;
    request_cpu_zone fixed zone=fixed:64k;
    server {
        listen 127.0.0.1:{{port:http}};
        location / { return 200 "x"; request_cpu zone=tails; }
        location /mixed { return 200 "x"; request_cpu zone=mixed zone=fixed; }
        location /late {
            set \$kind early;
            request_cpu zone=mixed;
            return 200 "x";
        }
    }
EOC

sub escape { my ($bytes) = @_; $bytes =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ge; return $bytes }
my $asked = 0;
sub ask { my ($key) = @_; $asked++; return $t->get('/k/' . escape($key))->{status} }
sub counted {
    my ($requests) = @_;
    wait_until(60, sub { sum(map { $_->{requests} } values %{ keys_of() }) == $requests });
}
sub keys_of { return $t->status('zone=tails')->{zones}{tails}{keys} }

# Key as bytes in the request => as characters in the status
my %key = (
    'an ordinary name' => [ 'example.com' ],
    'a quotation mark' => [ 'say "hello"' ],
    'a backslash' => [ 'back\\slash\\' ],
    'a newline' => [ "two\nlines", 'two\\x0Alines' ],
    'a tab' => [ "\t", '\\x09' ],
    # Control characters would reach the terminal of a person who looks at keys, and clients choose the keys.
    'return, escape and delete' => [ "\r\e\x7f\x01", '\\x0D\\x1B\\x7F\\x01' ],
    'text that looks like such a byte' => [ 'bad\\xFFbyte', 'bad\\x5CxFFbyte' ],
    'blanks only' => [ '   ' ],
    'braces, equals and commas' => [ '{a="b",c="d"} 1' ],
    'HTML' => [ '<script>&amp;</script>' ],
    'UTF-8 of two, three and four bytes' => [ encode('UTF-8', "\x{e9}\x{20ac}\x{1f600}"), "\x{e9}\x{20ac}\x{1f600}" ],
    'a byte that is no UTF-8' => [ "bad\xffbyte", 'bad\\xFFbyte' ],
    'UTF-8 cut in the middle' => [ "cut\xe2\x82", 'cut\\xE2\\x82' ],
    'a surrogate' => [ "half\xed\xa0\x80", 'half\\xED\\xA0\\x80' ],
    'an overlong slash' => [ "\xc0\xaf", '\\xC0\\xAF' ],
    'Latin-1' => [ "caf\xe9", 'caf\\xE9' ],
    '255 bytes' => [ 'y' x 255 ],
    'a number' => [ '12345' ],
    'a word of JSON' => [ 'null' ],
    'a percent sign' => [ '100%' ],
    # A reader would see another name, or no name.
    'a right-to-left override' => [ "\xe2\x80\xaemoc.live", '\\xE2\\x80\\xAEmoc.live' ],
    'an isolate and a mark' => [ "\xe2\x81\xa6a\xe2\x80\x8f", '\\xE2\\x81\\xA6a\\xE2\\x80\\x8F' ],
    'zero width characters' => [ "ex\xe2\x80\x8bample\xef\xbb\xbf\xc2\xad",
        'ex\\xE2\\x80\\x8Bample\\xEF\\xBB\\xBF\\xC2\\xAD' ],
    'a tag and a variation selector' => [ "a\xf3\xa0\x81\x81b\xef\xb8\x8f", 'a\\xF3\\xA0\\x81\\x81b\\xEF\\xB8\\x8F' ],
    'spaces that are none' => [ "a\xc2\xa0b\xe3\x80\x80c\xe3\x85\xa4", 'a\\xC2\\xA0b\\xE3\\x80\\x80c\\xE3\\x85\\xA4' ],
    'a line separator' => [ "a\xe2\x80\xa8b", 'a\\xE2\\x80\\xA8b' ],
    'Japanese' => [ encode('UTF-8', "\x{4f8b}\x{3048}.jp"), "\x{4f8b}\x{3048}.jp" ],
    'Hebrew' => [ encode('UTF-8', "\x{5e9}\x{5dc}\x{5d5}\x{5dd}.example"), "\x{5e9}\x{5dc}\x{5d5}\x{5dd}.example" ],
    'Arabic' => [ encode('UTF-8', "\x{645}\x{62b}\x{627}\x{644}.example"), "\x{645}\x{62b}\x{627}\x{644}.example" ],
    # b2sum -l 128
    '255 bytes that are no UTF-8' => [ "\xff" x 255, '\\xFF' x 8 . '\\...e79ccc538661a3ce74c2bdc7c3b0efc3' ],
    '254 of them' => [ "\xff" x 254, '\\xFF' x 8 . '\\...fb8d79d23af35988c187c0e4a1cf5f63' ],
    'a key that looks like a shortened one' => [ '\\xFF' x 8 . '\\...e79ccc538661a3ce74c2bdc7c3b0efc3',
        '\\x5CxFF' x 5 . '\\...d530c640da00157d226fcd2d8ee2f81e' ],
    '255 quotation marks' => [ '"' x 255, '"' x 21 . '\\...b4dceed8cd6712d2176ed6e45855ee12' ],
);
for my $name (sort keys %key) { is(ask($key{$name}[0]), 200, "request with $name") }
counted($asked);
my $keys = keys_of();
for my $name (sort keys %key) {
    my ($bytes, $shown) = @{ $key{$name} };
    $shown = $bytes unless defined $shown;
    # The exact spelling of \xHH is not promised.
    my ($found) = grep { $_ eq $shown || lc $_ eq lc $shown } keys %$keys;
    is($found && $keys->{$found}{requests}, 1, "$name is a key as any other") or diag(explain([ sort keys %$keys ]));
}
is(scalar(keys %$keys), scalar(keys %key), 'and there are no other keys');

# Prometheus' format, as read by Prometheus' own tools
my ($samples) = $t->prometheus('zone=tails');
my %seen = map { $_->[1]{key} => $_->[2] }
    grep { $_->[0] eq 'nginx_request_cpu_requests_total' && $_->[1]{class} eq '2xx' } @$samples;
for my $name (sort keys %key) {
    my ($bytes, $shown) = @{ $key{$name} };
    $shown = defined $shown ? encode('UTF-8', $shown) : $bytes;
    my ($found) = grep { lc $_ eq lc $shown } keys %seen;
    is($found && $seen{$found}, 1, "$name is the same in Prometheus' format") or diag(explain(\%seen));
}

# Filters
for my $name ('an ordinary name', 'a byte that is no UTF-8', 'text that looks like such a byte', 'a quotation mark',
    'a newline', 'a percent sign', 'UTF-8 of two, three and four bytes', 'a right-to-left override',
    '255 bytes that are no UTF-8', '255 quotation marks') {
    my ($bytes, $shown) = @{ $key{$name} };
    $shown = $bytes unless defined $shown;
    my $found = $t->status('zone=tails&key=' . escape($bytes))->{zones}{tails}{keys};
    is_deeply([ keys %$found ], [$shown], "?key= finds $name");
}

# A shortened key is found by its shown form too. That form may also be a key of its own, which is then shown beside
# it.
for my $name ('254 of them', '255 quotation marks') {
    my $shown = $key{$name}[1];
    is_deeply([ keys %{ $t->status('zone=tails&key=' . escape($shown))->{zones}{tails}{keys} } ], [$shown],
        "?key= finds $name by what is shown");
    is_deeply([ keys %{ $t->status('key=' . escape($shown))->{zones}{tails}{keys} } ], [$shown], 'and without a zone');
}
is_deeply([ sort keys %{
    $t->status('key=' . escape($key{'a key that looks like a shortened one'}[0]))->{zones}{tails}{keys} } ],
    [ sort map { $key{$_}[1] } '255 bytes that are no UTF-8', 'a key that looks like a shortened one' ],
    '?key= finds both keys that one text stands for');
for my $format ('json', 'prometheus') {
    my $missing = $t->get("/?format=$format&key=" . escape('a\\...' . '0' x 32), port => 'status');
    is($missing->{status}, 404, "$format: what no key is shown as is unknown");
    like($missing->{body}, qr/\A(?:\{"error":")?unknown key /, 'and says so');
    ok($missing->{complete}, 'in a whole answer');
}

# Empty, and too long
my $before = sum(map { $_->{requests} } values %$keys);
is(ask(''), 200, 'a request with an empty key') for 1 .. 3;
is($t->get('/a')->{status}, 200, 'and one with none');
is(ask('marker'), 200, 'a request after them');
counted($before + 1);
$keys = keys_of();
is(sum(map { $_->{requests} } values %$keys), $before + 1, 'an empty key is not counted');
ok(!exists $keys->{''}, 'and has no account');

is(ask('y' x 256), 200, 'a key of 256 bytes');
is(ask('y' x 254 . 'yz' . 'z' x 500), 200, 'a key of 756 bytes');
is(ask('y' x 254 . 'z' x 5000), 200, 'a key of more than 5000 bytes');
counted($before + 4);
$keys = keys_of();
is($keys->{ 'y' x 255 }{requests}, 3, 'a longer key is counted as the first 255 bytes of it');
is($keys->{ 'y' x 254 . 'z' }{requests}, 1, 'and is another one if they differ');
is(scalar(grep { length > 255 } keys %$keys), 0, 'no key is longer');

# A key may be cut within a character
is(ask('c' x 254 . encode('UTF-8', "\x{20ac}")), 200, 'a cut in the middle of a character');
counted($before + 5);
$keys = keys_of();
my ($cut) = grep { /^c{43}/ } keys %$keys;
is($cut, 'c' x 43 . '\\...2110dbd0a79b5dd0bec75d3f32fae171', 'is no text, and shown with its hash');

# Text and variables, and no variable at all
$t->get('/mixed?a=1', host => 'one.test');
$t->get('/mixed?a=1', host => 'one.test', method => 'HEAD');
$t->get('/mixed', host => 'two.test') for 1 .. 2;
$t->account_with('fixed', 'fixed', 4);
my $zones = $t->status->{zones};
is_deeply(
    { map { $_ => $zones->{mixed}{keys}{$_}{requests} } keys %{ $zones->{mixed}{keys} } },
    { 'one.test:GET/1' => 1, 'one.test:HEAD/1' => 1, 'two.test:GET/' => 2 },
    'a key can be made of text and variables',
);
is_deeply({ map { $_ => $zones->{fixed}{keys}{$_}{requests} } keys %{ $zones->{fixed}{keys} } }, { fixed => 4 },
    'or of text alone');

SKIP: {
    skip('promtool is not here', 1) if system('promtool --version >/dev/null 2>&1');
    my (undef, $text) = $t->prometheus;
    my ($status, $output) = run_command('promtool', 'check', 'metrics', { input => $text });
    is("$status$output", '0', 'promtool finds no fault in any of these keys');
}

$t->done;
