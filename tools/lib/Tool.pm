# Shared by the programs in tools/ and scripts/bench: the repository's folder, help, messages, files, and an NGINX
# with the module.
package Tool;

use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(basename dirname);
use IO::Socket::INET;

our @EXPORT_OK = qw($root build cpu_model fail free_port grouped has_program kernel lines machine median need progress
    server server_option slurp spew temp_paths test_with usage words);

our $root = abs_path(dirname(__FILE__) . '/../..');

# ---- messages -----------------------------------------------------------------------------------------------------

# Prints the help: the comment block at the head of the program. It goes to stdout with status 0, and to stderr with
# another status.
sub usage {
    my ($status) = @_;
    $status //= 0;
    my $out = $status ? *STDERR : *STDOUT;
    for my $line ((lines($0))[ 1 .. 200 ]) {
        last unless defined $line && $line =~ s/^# ?//;
        print {$out} $line;
    }
    exit $status;
}

# Ends the program with a message and with status 2.
sub fail {
    my ($message) = @_;
    $message =~ s/\n*\z/\n/;
    print STDERR basename($0), ": $message";
    exit 2;
}

# Prints one line on a terminal, in place of the line before.
sub progress {
    my ($text) = @_;
    print STDERR "\r\e[K$text" if -t STDERR;
    return;
}

# Formats a number as 1,234,567.
sub grouped {
    my ($number) = @_;
    $number = sprintf '%.0f', $number;
    1 while $number =~ s/^(\d+)(\d{3})/$1,$2/;
    return $number;
}

# ---- programs and files -------------------------------------------------------------------------------------------

sub has_program {
    my ($name) = @_;
    return scalar grep { -f -x "$_/$name" } split /:/, $ENV{PATH};
}

# need(program => package, …) fails if a program is missing.
sub need {
    my (%package) = @_;
    for my $name (sort keys %package) { has_program($name) or fail("$name is needed (package $package{$name})") }
    return;
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

# The lines of a file; no lines if the file is missing, as in /proc after a process has ended.
sub lines {
    my ($path) = @_;
    open my $file, '<', $path or return;
    return <$file>;
}

# ---- this machine -------------------------------------------------------------------------------------------------

sub cpu_model {
    my ($model) = map { /^model name\s*:\s*(.*\S)/ ? $1 : () } lines('/proc/cpuinfo');
    return $model // 'unknown processor';
}

sub kernel {
    chomp(my $kernel = `uname -sr`);
    return $kernel;
}

sub machine {
    my $processors = grep { /^processor/ } lines('/proc/cpuinfo');
    return sprintf '%s, %d processors; %s', cpu_model(), $processors, kernel();
}

sub median {
    my @sorted = sort { $a <=> $b } @_;
    return ($sorted[ $#sorted / 2 ] + $sorted[ @sorted / 2 ]) / 2;
}

# A port outside of the range from which the kernel takes the ports of clients. No port is returned twice. The
# function uses no random numbers, so that a program that begins with srand 1 gets the same numbers each time.
my %given;
my $last_port = $$ * 7919;
sub free_port {
    for (1 .. 5000) {
        my $port = 10_000 + ++$last_port % 20_000;
        next if $given{$port}++;
        return $port if IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1);
    }
    fail('no port is free');
}

# That many words of a small vocabulary, with the frequencies of a text. They are the same in each run.
sub words {
    my ($count) = @_;
    srand 1;
    my @words = map { join '', map { ('a' .. 'z')[rand 26] } 1 .. 2 + rand 8 } 1 .. 2000;
    return join ' ', map { $words[ @words * rand() ** 2 ] } 1 .. $count;
}

# ---- NGINX --------------------------------------------------------------------------------------------------------

# Builds the module for an NGINX of scripts/build (vendored, system, source). Returns the paths of the module and of
# NGINX; for a source only that of the module.
sub build {
    my ($variant, $source) = @_;
    $variant //= 'vendored';
    open my $out, '-|', "$root/scripts/build", "--$variant", $source // () or fail("scripts/build: $!");
    chomp(my $module = (<$out>)[-1] // '');
    close $out;
    $module = "$root/$module" if $module =~ m{^[^/]};
    -f $module or fail('the module was not built');
    return $module if $variant eq 'source';
    my ($nginx) = $variant eq 'vendored' ? $module =~ s{[^/]+$}{nginx}r : grep { -x } '/usr/sbin/nginx';
    return ($module, $nginx // fail("there is no NGINX for \"$variant\""));
}

# Takes --vendored, --system, --source DIR, --nginx BINARY and --module FILE from the arguments of a program. Returns
# false for every other argument. $more are the arguments that follow.
sub server_option {
    my ($server, $arg, $more) = @_;
    if ($arg =~ /^--(vendored|system)$/) { $server->{variant} = $1 }
    elsif ($arg eq '--source') {
        -d ($server->{source} = shift(@$more) // '') or fail('--source takes the folder of an NGINX source');
    }
    elsif ($arg eq '--nginx') { -x ($server->{nginx} = shift(@$more) // '') or fail('--nginx takes a program') }
    elsif ($arg eq '--module') { -f ($server->{module} = shift(@$more) // '') or fail('--module takes a file') }
    else { return 0 }
    return 1;
}

# The paths of the module and of NGINX for the arguments of server_option.
sub server {
    my (%server) = @_;
    my ($module, $nginx) = @server{qw(module nginx)};
    if (defined $server{source}) {
        $nginx //= "$server{source}/objs/nginx";
        -x $nginx or fail("there is no server in \"$server{source}/objs\"; build it, or name it with --nginx");
        $module //= build('source', $server{source});
    }
    if (!defined $module || !defined $nginx) {
        my @built = build($server{variant});
        $module //= $built[0];
        $nginx //= $built[1];
    }
    return map { abs_path($_) } $module, $nginx;
}

# Builds the module for Test::RequestCpu; load Test::RequestCpu afterwards. It ends the program after so many seconds.
sub test_with {
    my ($seconds) = @_;
    @ENV{qw(TEST_NGINX_MODULE TEST_NGINX_BINARY)} = build();
    @ENV{qw(TEST_NGINX_VARIANT TEST_TIME_LIMIT)} = ('vendored', $seconds);
    return;
}

# The directives that keep NGINX's temporary files below a folder.
sub temp_paths {
    my ($prefix) = @_;
    return join ' ', map { "${_}_temp_path $prefix/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
}

1;
