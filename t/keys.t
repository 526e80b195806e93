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
sub counted { my ($requests) = @_; wait_until(60, sub { sum(map { $_->{requests} } values %{ keys_of() }) == $requests }) }
sub keys_of { return $t->status('zone=tails')->{zones}{tails}{keys} }

# As bytes in the request; as characters in the status
my %key = (
    'an ordinary name' => [ 'example.com' ],
    'a quotation mark' => [ 'say "hello"' ],
    'a backslash' => [ 'back\\slash\\' ],
    'a newline' => [ "two\nlines" ],
    'a tab' => [ "\t" ],
    # They would reach the terminal of whoever looks at keys that clients choose.
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

# Prometheus, by what its own tools read
my ($samples) = $t->prometheus('zone=tails');
my %seen = map { $_->[1]{key} => $_->[2] } grep { $_->[0] eq 'nginx_request_cpu_requests_total' && $_->[1]{class} eq '2xx' } @$samples;
for my $name (sort keys %key) {
    my ($bytes, $shown) = @{ $key{$name} };
    $shown = defined $shown ? encode('UTF-8', $shown) : $bytes;
    my ($found) = grep { lc $_ eq lc $shown } keys %seen;
    is($found && $seen{$found}, 1, "$name is the same in Prometheus' format") or diag(explain(\%seen));
}

# Filters
for my $name ('an ordinary name', 'a byte that is no UTF-8', 'text that looks like such a byte', 'a quotation mark', 'a newline', 'a percent sign', 'UTF-8 of two, three and four bytes') {
    my ($bytes, $shown) = @{ $key{$name} };
    $shown = $bytes unless defined $shown;
    my $found = $t->status('zone=tails&key=' . escape($bytes))->{zones}{tails}{keys};
    is_deeply([ keys %$found ], [$shown], "?key= finds $name");
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

# A cut may fall within a character
is(ask('c' x 254 . encode('UTF-8', "\x{20ac}")), 200, 'a cut in the middle of a character');
counted($before + 5);
$keys = keys_of();
my ($cut) = grep { /^c{254}/ } keys %$keys;
like($cut, qr/^c{254}\\xE2$/i, 'shows the byte that is left');

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
is_deeply({ map { $_ => $zones->{fixed}{keys}{$_}{requests} } keys %{ $zones->{fixed}{keys} } }, { fixed => 4 }, 'or of text alone');

SKIP: {
    skip('promtool is not here', 1) if system('promtool --version >/dev/null 2>&1');
    my (undef, $text) = $t->prometheus;
    my ($status, $output) = run_command('promtool', 'check', 'metrics', { input => $text });
    is("$status$output", '0', 'promtool finds no fault in any of these keys');
}

$t->done;
