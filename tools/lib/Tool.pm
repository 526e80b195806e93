# What the programs in tools/ share: the repository's folder, the help, messages and files.
package Tool;

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(basename dirname);

our @EXPORT_OK = qw($root fail slurp spew usage);

our $root = abs_path(dirname(__FILE__) . '/../..');

# The comment block at the head of a program is its help. It goes to stdout with status 0, or to stderr with another status.
sub usage {
    my ($status) = @_;
    $status //= 0;
    open my $self, '<', $0 or die "$0: $!\n";
    my $out = $status ? *STDERR : *STDOUT;
    while (my $line = <$self>) {
        next if $. == 1;
        last unless $line =~ s/^# ?//;
        print {$out} $line;
    }
    exit $status;
}

# Ends the program with a message. The status is 2, as for all wrong arguments.
sub fail {
    my ($message) = @_;
    print STDERR basename($0), ": $message\n";
    exit 2;
}

sub slurp {
    my ($path) = @_;
    open my $file, '<', $path or die basename($0) . ": $path: $!\n";
    local $/;
    return scalar <$file>;
}

sub spew {
    my ($path, $text) = @_;
    open my $file, '>', $path or die basename($0) . ": $path: $!\n";
    print {$file} $text;
    close $file or die basename($0) . ": $path: $!\n";
    return;
}

1;
