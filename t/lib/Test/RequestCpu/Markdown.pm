package Test::RequestCpu::Markdown;

# Links and headings of Markdown files.

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use File::Spec;

our @EXPORT_OK = qw(link_faults summary_faults);

# link_faults($root, @files): links to a missing file or heading, with file and line. Links to other servers are not
# checked.
sub link_faults {
    my ($root, @files) = @_;
    my (%page, @faults);
    for my $file (@files) {
        my $page = $page{$file} ||= page("$root/$file");
        for my $link (@{ $page->{links} }) {
            my ($line, $target) = @$link;
            next if $target =~ /^(?:[a-z][a-z0-9+.-]*:|\/\/)/i;
            my ($path, $anchor) = $target =~ /^([^#]*)(?:#(.*))?$/;
            s/%([0-9A-Fa-f]{2})/chr hex $1/ge for grep { defined } $path, $anchor;
            my $name = $path eq '' ? $file : short(dirname($file) . "/$path");
            my $place = "$file:$line: link to \"$target\"";
            if ($name =~ m{^\.\./} || $path =~ m{^/}) { push @faults, "$place leads out of the repository" }
            elsif (!-e "$root/$name") { push @faults, "$place: there is no $name" }
            elsif ($file =~ m{^docs/src/} && $name !~ m{^docs/src/}) { push @faults, "$place leads out of the book" }
            elsif (defined $anchor && $anchor ne '' && $name =~ /\.md$/) {
                my $other = $page{$name} ||= page("$root/$name");
                push @faults, "$place: $name has no heading \"$anchor\"" unless $other->{anchors}{$anchor};
            }
        }
    }
    return @faults;
}

# summary_faults($root): pages that docs/src/SUMMARY.md does not name.
sub summary_faults {
    my ($root, @pages) = @_;
    my %named = map { short("docs/src/$_->[1]") => 1 } @{ page("$root/docs/src/SUMMARY.md")->{links} };
    return map { "$_ is not in docs/src/SUMMARY.md" } grep { $_ ne 'docs/src/SUMMARY.md' && !$named{$_} } @pages;
}

# Shortens a/b/../c to a/c.
sub short {
    my ($path) = @_;
    $path = File::Spec->canonpath($path);
    1 while $path =~ s{(?:^|(?<=/))(?!\.\./)[^/]+/\.\./}{} || $path =~ s{(?:^|(?<=/))(?!\.\./)[^/]+/\.\.$}{.};
    return $path;
}

# { links => [ [line, target], … ], anchors => { name => 1 } } of a file. Code is left out.
sub page {
    my ($path) = @_;
    open my $in, '<:encoding(UTF-8)', $path or die "$path: $!\n";
    my ($fence, %count, %anchors, @links);
    my $text = '';
    while (my $line = <$in>) {
        if (defined $fence) { undef $fence if $line =~ /^\s*\Q$fence\E[`~]*\s*$/; $text .= "\n"; next }
        if ($line =~ /^\s*(```+|~~~+)/) { $fence = $1; $text .= "\n"; next }
        if ($line =~ /^#{1,6}\s+(.*?)\s*#*\s*$/) {
            my $title = $1;
            if ($title =~ s/\s*\{[^}]*#([\w.-]+)[^}]*\}$//) { $anchors{$1} = 1; $text .= "$title\n"; next }
            my $anchor = anchor($title);
            $anchors{ $count{$anchor}++ ? "$anchor-" . ($count{$anchor} - 1) : $anchor } = 1;
        }
        $anchors{$1} = 1 while $line =~ /<\w+[^>]*\s(?:id|name)="([^"]+)"/g;
        $text .= $line;
    }
    # removes code, also code over several lines; line ends stay
    $text =~ s/(?<!`)(`+)(?!`)(?:(?!\n\n).)+?(?<!`)\1(?!`)/$& =~ tr{\n}{}cdr/gse;
    my $title = qr/(?:\s+(?:"[^"]*"|'[^']*'))?/;
    my @forms = (
        # [text](target "title")
        qr/!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?([^\s<>()]*(?:\([^\s()]*\)[^\s<>()]*)*)>?$title\s*\)/,
        qr/\[!\[[^\]]*\]\([^)]*\)\]\(([^)\s]+)\)/,    # a picture that is a link
        qr/^ {0,3}\[[^\]]+\]:\s+<?(\S+?)>?(?:\s|$)/m,    # [name]: target
        qr/<(?:a|img)\b[^>]*\s(?:href|src)="([^"]+)"/,
    );
    for my $form (@forms) {
        while ($text =~ /$form/g) { push @links, [ line($text, $-[1]), $1 ] }
    }
    my %seen;
    return { links => [ grep { !$seen{"@$_"}++ } @links ], anchors => \%anchors };
}

sub line { my ($text, $at) = @_; return 1 + (substr($text, 0, $at) =~ tr/\n//) }

# GitHub and mdBook make the same anchor of a title.
sub anchor {
    my ($title) = @_;
    $title =~ s/!?\[([^\]]*)\]\([^)]*\)/$1/g;
    $title =~ s/<[^>]*>//g if $title !~ /`/;
    $title = lc $title;
    $title =~ s/[^\w\s-]//g;
    $title =~ s/\s/-/g;
    return $title;
}

1;
