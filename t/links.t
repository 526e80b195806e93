# Every link from the repository's Markdown files to each other, to other files and to headings has a target. Every
# page of the book is in its summary.
use strict;
use warnings;
use File::Find qw(find);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu::Markdown qw(link_faults summary_faults);

# planted faults are found, each in its own file
my $own = tempdir(CLEANUP => 1);
make_path("$own/docs/src/images");
sub own {
    my ($path, $text) = @_;
    open my $file, '>:encoding(UTF-8)', "$own/$path" or die "$path: $!\n";
    print {$file} $text;
    close $file or die "$path: $!\n";
}
own('LICENSE', '');
own('docs/src/SUMMARY.md', "- [One](one.md)\n- [Three](three.md)\n");
own('docs/src/one.md', join "\n\n", '# One', '## request_cpu_zone', '## How `it` works: a, b', '## Same', '## Same',
    '<a id="by-hand"></a>');
own('docs/src/two.md', "[out](../../LICENSE) and\n[none](one.md#zone)\n");
own('README.md', <<'TEXT');
# Title

[file](LICENSE), [page](docs/src/one.md), [heading](docs/src/one.md#request_cpu_zone), [here](#title)
[words](docs/src/one.md#how-it-works-a-b) [second](docs/src/one.md#same-1) [by hand](docs/src/one.md#by-hand)
[other](https://example.com/none#x) [mail](mailto:a@example.com) `[code](none.md)`, and `more
[code](none.md)`. [with title](LICENSE "a title")

```
[code](none.md)
```

[gone](docs/src/gone.md)
![picture](docs/src/images/gone.svg)
[heading](docs/src/one.md#gone) [here](#gone) <a href="gone.html">x</a>

[reference]: gone.md
TEXT
is_deeply([ link_faults($own, 'README.md', 'docs/src/one.md', 'docs/src/two.md', 'docs/src/SUMMARY.md') ], [
    'README.md:12: link to "docs/src/gone.md": there is no docs/src/gone.md',
    'README.md:13: link to "docs/src/images/gone.svg": there is no docs/src/images/gone.svg',
    'README.md:14: link to "docs/src/one.md#gone": docs/src/one.md has no heading "gone"',
    'README.md:14: link to "#gone": README.md has no heading "gone"',
    'README.md:16: link to "gone.md": there is no gone.md',
    'README.md:14: link to "gone.html": there is no gone.html',
    'docs/src/two.md:1: link to "../../LICENSE" leads out of the book',
    'docs/src/two.md:2: link to "one.md#zone": docs/src/one.md has no heading "zone"',
    'docs/src/SUMMARY.md:2: link to "three.md": there is no docs/src/three.md',
], "the faults of the test's own pages are found");
is_deeply([ summary_faults($own, 'docs/src/one.md', 'docs/src/two.md') ],
    ['docs/src/two.md is not in docs/src/SUMMARY.md'], 'a page that is missing in the summary is found');

my $root = "$FindBin::Bin/..";
my @files;
find({ no_chdir => 1, wanted => sub {
    return $File::Find::prune = 1 if -d && m{/(?:target|node_modules|\.git)$};
    push @files, substr $_, 1 + length $root if /\.md$/;
} }, $root);
@files = sort @files;
my @faults = link_faults($root, @files);
my @pages = grep { m{^docs/src/} } @files;
push @faults, summary_faults($root, @pages) if @pages;
ok(!@faults, 'every link of ' . @files . ' files leads somewhere') or diag(join "\n", @faults);
done_testing;
