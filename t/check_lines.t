# tools/check-lines finds a line of more than 120 columns in each language, and names file, line and columns. It accepts
# lines that cannot be broken. Each line is planted in a file of its own.
use strict;
use warnings;
use utf8;

use File::Path qw(make_path);
use File::Spec;
use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu::Process qw(run_command);

my $root = File::Spec->rel2abs("$FindBin::Bin/..");
my $dir = tempdir(CLEANUP => 1);

# The exit status and the output for a file with these lines.
sub check {
    my ($name, @lines) = @_;
    my $path = "$dir/$name";
    open my $file, '>:encoding(UTF-8)', $path or die "$path: $!\n";
    print {$file} "$_\n" for @lines;
    close $file or die "$path: $!\n";
    return run_command("$root/tools/check-lines", $path);
}

sub fails {
    my ($title, $columns, $name, @lines) = @_;
    my ($status, $output) = check($name, @lines);
    is($status, 1, "$title: a fault");
    my $at = @lines;
    is($output, "$dir/$name:$at: $columns columns, more than 120; break the line\n", "$title: file, line and columns");
    return;
}

sub passes {
    my ($title, $name, @lines) = @_;
    my ($status, $output) = check($name, @lines);
    is($status, 0, "$title: no fault") or diag($output);
    return;
}

my $words = join ' ', ('word') x 25;    # 124 columns
fails('Rust', 127, 'a.rs', 'fn a() {}', "// $words");
fails('Perl', 126, 'a.t', 'use strict;', "# $words");
fails('a module of Perl', 126, 'A.pm', "# $words");
fails('shell', 126, 'a.sh', "# $words");
fails('Python', 126, 'a.py', "# $words");
fails('TypeScript', 127, 'a.ts', "// $words");
fails('Markdown', 124, 'a.md', '# Title', '', $words);
fails('Markdown after a block', 124, 'b.md', '```', "$words $words", '```', $words);
fails('a program without a suffix', 126, 'program', '#!/usr/bin/env perl', "# $words");
fails('a call with short strings', 121, 'call.rs', 'call(' . join(', ', ('"abcde"') x 12) . ', 123456);');
fails('much code around a string', 132, 'code.rs', 
    '    let value = object.method(argument, other) + "' . 'x' x 80 . '";');

passes('120 columns', 'b.rs', '// ' . 'w ' x 58 . 'w');
passes('columns are counted, not bytes', 'c.rs', '// ' . 'ä ' x 58 . 'ä');
passes('a link', 'd.rs', '    // https://example.com/' . 'x' x 120);
passes('a string', 'e.rs', '    let text = "' . $words . '";');
passes('a regular expression', 'f.pl', "like(\$text, qr/$words/);");
passes('words', 'g.pl', "my \@words = qw($words);");
passes('a table', 'c.md', "| $words |");
passes('a block', 'd.md', '```text', "$words $words", '```');
passes('data of another kind', 'data.json', qq({"text":"$words $words"}));

my ($status, $output) = run_command("$root/tools/check-lines");
is($status, 0, 'no line of the repository is too long') or diag($output);
($status, $output) = run_command("$root/tools/check-lines", "$dir/missing.rs");
is($status, 2, 'a missing file is a wrong argument');

done_testing;
