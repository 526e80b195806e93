package Test::RequestCpu::Content;

# Rules and texts that make a server work. They are the same on every run.

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(burn_rules burn_text words);

# Rewrite rules that burn CPU in one handler call: the cost of the pattern doubles with every letter of the argument x
# (about 35 ms at twenty letters). Up to there it stays below PCRE's own limit.
sub burn_rules {
    my ($count) = @_;
    return join "\n", map { 'if ($arg_x ~ "^(a+)+$") { set $burnt ' . $_ . '; }' } 1 .. $count;
}

sub burn_text { my ($letters) = @_; return 'a' x ($letters || 20) . 'b' }

# A text that keeps a compressor busy; it is the same on every run.
sub words {
    my ($bytes) = @_;
    my @word = qw(request wakeup owner lap account worker zone key connection stream handler cycle phase filter upstream);
    my ($seed, $text) = (4711, '');
    while (length $text < $bytes) {
        $seed = ($seed * 1103515245 + 12345) % 2147483648;
        $text .= $word[($seed >> 8) % @word] . ' ' . ($seed >> 16) % 1000 . ($seed & 0x40000 ? "\n" : ' ');
    }
    return substr $text, 0, $bytes;
}

1;
