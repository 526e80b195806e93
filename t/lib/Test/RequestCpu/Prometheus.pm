package Test::RequestCpu::Prometheus;

# A real Prometheus, or VictoriaMetrics, on a free loopback port with its data in the test's folder. The files of
# nginx-conf/prometheus, with faster time. PromQL queries to either server. Core Perl only.

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Path qw(make_path);
use HTTP::Tiny;
use JSON::PP ();
use POSIX ();
use Time::HiRes qw(sleep time);

use Test::RequestCpu;

our @EXPORT = qw(shipped shipped_files faster uncommented recorded_names dashboard dashboard_expressions dashboard_variables);

#
# The shipped files

my $folder = abs_path(dirname(__FILE__) . '/../../../../nginx-conf/prometheus');

sub shipped_files { return map { m{([^/]+)$} } sort glob "$folder/*.yml" }

sub shipped {
    my ($name) = @_;
    open my $file, '<', "$folder/$name" or die "cannot read $folder/$name: $!\n";
    local $/;
    return scalar <$file>;
}

# A text with every duration divided by a number. With 15, 15s becomes 1s, and [5m] becomes [20s]. Names keep their
# "rate5m".
sub faster {
    my ($text, $times) = @_;
    my %seconds = (s => 1, m => 60, h => 3600, d => 86_400);
    $text =~ s{(?<![\w.])(\d+)([smhd])(?!\w)}{ sprintf '%dms', $1 * $seconds{$2} * 1000 / $times }ge;
    return $text;
}

# A text in which commented-out parts are active. "#" with a space after it begins prose.
sub uncommented {
    my ($text) = @_;
    $text =~ s/^( *)#(?=\S)/$1/mg;
    return $text;
}

# The names of the recorded series: { name => 1 }
sub recorded_names {
    return map { $_ => 1 } map { shipped($_) =~ /^\s*- record: (\S+)$/mg }
        grep { /^(?:rules-|scale|limits)/ } shipped_files();
}

sub dashboard { return JSON::PP->new->utf8->decode(shipped('grafana-dashboard.json')) }

# [ panel, refId, expression ] of every target, with the values of the dashboard's variables.
sub dashboard_expressions {
    my (%variable) = @_;
    my @found;
    my @panels = @{ dashboard()->{panels} };
    while (my $panel = shift @panels) {
        push @panels, @{ $panel->{panels} || [] };
        push @found, map { [ "$panel->{title}", $_->{refId}, filled($_->{expr}, %variable) ] } @{ $panel->{targets}
            || [] };
    }
    return @found;
}

# [ name, function, expression, label or regular expression ] of the variables that query Prometheus.
sub dashboard_variables {
    my (%variable) = @_;
    my @found;
    for my $each (grep { $_->{type} eq 'query' } @{ dashboard()->{templating}{list} }) {
        my $query = filled($each->{query}{query}, %variable);
        my ($regex) = $each->{regex} =~ m{^/(.*)/$};
        if    ($query =~ /^label_values\((.*), (\w+)\)$/) { push @found, [ $each->{name}, 'label_values', $1, $2 ] }
        elsif ($query =~ /^query_result\((.*)\)$/)        { push @found, [ $each->{name}, 'query_result', $1, $regex ] }
        else                                              {
            die "variable $each->{name} asks in an unknown way: $query\n";
        }
    }
    return @found;
}

sub filled {
    my ($text, %variable) = @_;
    my $value = sub {
        my $name = $_[0] =~ tr{{}}{}dr;
        return $variable{$name} // die "no variable $name in $text\n";
    };
    $text =~ s/\$(\w+|\{\w+\})/$value->($1)/ge;
    return $text;
}

#
# The servers
#

# The path of a command, or nothing.
sub command {
    my ($class, $name) = @_;
    for my $directory (split /:/, $ENV{PATH}) { return "$directory/$name" if -x "$directory/$name" }
    return;
}

# Starts a command that answers Prometheus' HTTP API at a port.
sub _start {
    my ($class, %part) = @_;
    my ($log, @command) = ($part{log}, @{ $part{command} });
    my $child = Test::RequestCpu::Child->new(sub {
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>>', $log;
        open STDERR, '>&', \*STDOUT;
        exec { $command[0] } @command or POSIX::_exit(127);
    });
    my $self = bless {
        child => $child, port => $part{port}, log => $log, http => HTTP::Tiny->new(timeout => 30),
            nocache => $part{nocache},
    }, $class;
    Test::RequestCpu::wait_until(20, sub { $self->{http}->get($self->url($part{ready}))->{success} })
        or die "$command[0] did not start: " . $self->log;
    return $self;
}

# prometheus(dir => …, config => text, files => { name => text })
sub prometheus {
    my ($class, %part) = @_;
    my $dir = "$part{dir}/prometheus";
    make_path("$dir/data");
    my %file = ('prometheus.yml' => $part{config}, %{ $part{files} || {} });
    for my $name (keys %file) { Test::RequestCpu->write_file("$dir/$name", $file{$name}) }
    my $port = $part{port} || Test::RequestCpu::free_port();
    return $class->_start(
        port => $port, log => "$dir/log", ready => '/-/ready',
        command => [
            $class->command('prometheus'), "--config.file=$dir/prometheus.yml", "--storage.tsdb.path=$dir/data",
            "--web.listen-address=127.0.0.1:$port", '--log.level=warn', @{ $part{flags} || [] },
        ],
    );
}

sub victoria_metrics {
    my ($class, %part) = @_;
    my $dir = "$part{dir}/victoria-metrics";
    make_path($dir);
    my $port = $part{port} || Test::RequestCpu::free_port();
    return $class->_start(
        port => $port, log => "$dir/log", ready => '/health', nocache => 1,
        # the default would hide samples younger than 30 s
        command => [
            $class->command('victoria-metrics'), "-storageDataPath=$dir/data", "-httpListenAddr=127.0.0.1:$port",
            '-search.latencyOffset=0s', '-loggerLevel=WARN', '-retentionPeriod=1',
        ],
    );
}

sub url { my ($self, $path) = @_; return "http://127.0.0.1:$self->{port}$path" }
sub port { $_[0]{port} }
sub pid  { $_[0]{child}->pid }

sub log {
    my ($self) = @_;
    open my $file, '<', $self->{log} or return '';
    local $/;
    my $text = <$file>;
    return defined $text ? $text : '';
}

# Stops the server. Returns its exit status, or undef if it had to be killed.
sub stop {
    my ($self) = @_;
    kill TERM => $self->{child}->pid;
    my $status = $self->{child}->wait(20);
    $self->{child}->end unless defined $status;
    return $status;
}

#
# Queries

sub api {
    my ($self, $path, %argument) = @_;
    $argument{nocache} = 1 if $self->{nocache};
    my $answer = $self->{http}->post_form($self->url("/api/v1/$path"), \%argument);
    my $data = eval { JSON::PP->new->utf8->decode($answer->{content}) };
    die "$path: $answer->{status} $answer->{content}\n"
        unless $answer->{success} && $data && $data->{status} eq 'success';
    return $data->{data};
}

sub get {
    my ($self, $path) = @_;
    my $answer = $self->{http}->get($self->url($path));
    die "$path: $answer->{status} $answer->{content}\n" unless $answer->{success};
    return JSON::PP->new->utf8->decode($answer->{content})->{data};
}

# Series of an instant query: [ { label => value }, number, time ]. Of a range query: [ { … }, [ time, number ], … ].
sub query {
    my ($self, $expression, $time) = @_;
    my $data = $self->api('query', query => $expression,
        time => sprintf('%.3f', defined $time ? $time : Time::HiRes::time()));
    return [ map { [ $_->{metric}, @{ $_->{values} } ] } @{ $data->{result} } ] if $data->{resultType} eq 'matrix';
    return [ [ {}, $data->{result}[1], $data->{result}[0] ] ] if $data->{resultType} eq 'scalar';
    return [ map { [ $_->{metric}, $_->{value}[1], $_->{value}[0] ] } @{ $data->{result} } ];
}

# { "value of a label,of the next" => number }
sub values {
    my ($self, $expression, $time, @labels) = @_;
    return { map {
        my ($metric, $value) = @$_;
        join(',', map { defined $metric->{$_} ? $metric->{$_} : '' } @labels) => $value;
    } @{ $self->query($expression, $time) } };
}

1;
