package Test::RequestCpu;

# Runs a real NGINX with the module in a folder of its own, on free loopback ports, and tells what it did: its access log,
# its accounts, its books, and what the kernel says about the CPU time of its workers. Core Perl only.

use strict;
use warnings;

use Exporter 'import';
use Fcntl qw(:DEFAULT :flock);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp ();
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX ();
use Scalar::Util ();
use Test::More;
use Time::HiRes qw(sleep time);

use Test::RequestCpu::Connection;

our @EXPORT = qw(median sum least within run_command free_port wait_until burn_rules burn_text words detached);

# A suite that hangs tells nothing. A single file is done in seconds, but not on a machine that is busy with something else.
my $TIME_LIMIT = $ENV{TEST_TIME_LIMIT} || 300;

# How long is waited for what has to come. It costs nothing where it does come.
our $PATIENCE = 60;

my %live;        # servers and helper processes to be stopped whatever happens, by process
my $owner = $$;  # forked children must not clean up for their parent

sub _emergency {
    my ($why, $status) = @_;
    POSIX::_exit($status) if $$ != $owner;
    diag($why);
    _clean_all();
    POSIX::_exit($status);
}

$SIG{ALRM} = sub { _emergency("time limit of $TIME_LIMIT seconds is over", 124) };
$SIG{$_} = sub { _emergency("stopped by a signal", 130) } for qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';
alarm $TIME_LIMIT;

END {
    # $? is the status that the test leaves with, and waitpid would overwrite it.
    if ($$ == $owner) { local ($?, $@, $!); _clean_all() }
}

sub _clean_all {
    # copies: cleaning one may let go of another
    my @things = grep { defined } values %live;
    $_->_clean for @things;
    %live = ();
}

sub remember { my ($class, $thing) = @_; $live{0 + $thing} = $thing; Scalar::Util::weaken($live{0 + $thing}) }
sub forget   { my ($class, $thing) = @_; delete $live{0 + $thing} }

#
# What the binary can do
#

sub new {
    my ($class, %option) = @_;
    my $binary = $ENV{TEST_NGINX_BINARY} or BAIL_OUT('TEST_NGINX_BINARY names no NGINX; run scripts/test');
    my $module = $ENV{TEST_NGINX_MODULE};
    my $self = bless {
        binary   => $binary,
        module   => $module,
        with     => defined $option{module} ? $option{module} : 1,
        port     => {},
        children => [],
        expected => [],
        owner    => $$,
    }, $class;
    if ($self->{with} && !($module && -e $module)) { BAIL_OUT('TEST_NGINX_MODULE names no module; run scripts/test') }

    $self->{temp} = File::Temp->newdir('request-cpu-XXXXXX', TMPDIR => 1, CLEANUP => !$ENV{TEST_KEEP});
    $self->{dir} = $self->{temp}->dirname;
    diag("keeping $self->{dir}") if $ENV{TEST_KEEP};
    chmod 0755, $self->{dir};
    make_path("$self->{dir}/html", "$self->{dir}/temp");

    my $about = `$binary -V 2>&1`;
    $self->{about} = $about;
    # a fork names itself in a line before, or in this one: "nginx version: openresty/1.27.1.2"
    ($self->{version}) = $about =~ m{^nginx version: [\w-]+/(\d+\.\d+\.\d+)}m or BAIL_OUT("$binary is no NGINX: $about");
    $class->remember($self);
    return $self;
}

sub dir     { $_[0]{dir} }
sub version { $_[0]{version} }

sub at_least {
    my ($self, $version) = @_;
    my ($have, $want) = map { sprintf '%03d%03d%03d', split /\./ } $self->{version}, $version;
    return $have ge $want;
}

# Modules that are always built unless somebody says --without.
my %default = map { $_ => 1 } qw(gzip ssi auth_basic proxy limit_req limit_conn rewrite map mirror upstream_keepalive);

sub has {
    my ($self, $feature) = @_;
    my $about = $self->{about};
    return $about !~ /--without-(?:http|mail|stream)?_?\Q$feature\E(?:_module)?\b/ if $default{$feature};
    return $about =~ /--with-threads\b/  if $feature eq 'threads';
    return $about =~ /--with-file-aio\b/ if $feature eq 'file-aio';
    if ($feature =~ /^(?:stream|mail)$/) {
        return 1 if $about =~ /--with-$feature(?![=\w])/;
        return 0 unless $about =~ /--with-$feature=dynamic/;
        return defined $self->_dynamic("ngx_${feature}_module.so");
    }
    return $about =~ /--with-(?:http_)?\Q$feature\E(?:_module)?(?![=\w-])/;
}

# A dynamic module: below the folder that the package with the binary is unpacked to, which may not be the system's; or beside a
# binary that was not installed.
sub _dynamic {
    my ($self, $file) = @_;
    my $place = dirname($self->{binary});
    my @folders = ($place);
    if (my ($folder) = $self->{about} =~ /--modules-path=(\S+)/) {
        for (; $place ne '/' && $place ne '.'; $place = dirname($place)) { push @folders, "$place$folder" }
        push @folders, $folder;
    }
    elsif (my ($prefix) = $self->{about} =~ /--prefix=(\S+)/) {
        push @folders, "$prefix/modules";
    }
    my ($found) = grep { -e } map { "$_/$file" } @folders;
    return $found;
}

# load_module line for a part of NGINX that some packages ship as a dynamic module.
sub load {
    my ($self, $feature) = @_;
    return '' if $self->{about} =~ /--with-$feature(?![=\w])/;
    my $file = $self->_dynamic("ngx_${feature}_module.so");
    return $file ? "load_module $file;\n" : '';
}

sub need {
    my ($self, @features) = @_;
    for my $feature (@features) {
        next if $self->has($feature);
        $self->_clean;
        plan(skip_all => "nginx/$self->{version} here has no $feature");
    }
    return $self;
}

# HTTP/2 on a plain port is a parameter of listen before 1.25.1, and a directive since.
sub http2_listen { $_[0]->at_least('1.25.1') ? '' : ' http2' }
sub http2_on     { $_[0]->at_least('1.25.1') ? 'http2 on;' : '' }

#
# Configuration
#

my %given;

sub free_port {
    # Outside the range that the kernel takes source ports from, which a client of another test may hold at any moment. One
    # that was given out may not be in use yet: while this process lives, a socket without a file says so to other tests.
    for (1 .. 500) {
        my $port = 10_000 + int rand 20_000;
        next if $given{$port};
        my $claim = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "\0request-cpu-port-$port") or next;
        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1) or next;
        close $socket;
        $given{$port} = $claim;
        return $port;
    }
    die "no free port\n";
}

sub port {
    my ($self, $name) = @_;
    return $self->{port}{$name} ||= free_port();
}

sub fill {
    my ($self, $text) = @_;
    $text =~ s/\{\{dir\}\}/$self->{dir}/g;
    $text =~ s/\{\{module\}\}/$self->{module}/g;
    $text =~ s/\{\{port:(\w+)\}\}/$self->port($1)/ge;
    $text =~ s/\{\{http2\}\}/$self->http2_listen/ge;
    $text =~ s/\{\{http2_on\}\}/$self->http2_on/ge;
    return $text;
}

my @log_fields = (
    uri => '$request_uri', final_uri => '$uri', host => '$host', server => '$server_name', method => '$request_method',
    status => '$status', time => '$request_cpu_time', ns => '$request_cpu_ns', wakeups => '$request_cpu_wakeups',
    conn_ns => '$request_cpu_connection_ns', order => '$connection_requests', connection => '$connection',
    sent => '$bytes_sent', received => '$request_length', cache => '$upstream_cache_status', took => '$request_time',
    protocol => '$server_protocol', pid => '$pid',
);

sub _log_format {
    my ($self) = @_;
    my @members;
    for (my $i = 0; $i < @log_fields; $i += 2) {
        my ($name, $value) = @log_fields[$i, $i + 1];
        $value = '-' if !$self->{with} && $value =~ /request_cpu/;
        push @members, qq{"$name":"$value"};
    }
    return "log_format facts escape=json '{" . join(',', @members) . "}';";
}

sub _config {
    my ($self, %part) = @_;
    return $part{raw} if defined $part{raw};
    my ($main, $events, $http, $extra) = map { defined $part{$_} ? $part{$_} : '' } qw(main events http extra);
    # Not as root, NGINX warns about the directive; as root, it would give up its right to the test's folder.
    my $user = $> == 0 ? 'user root;' : '';
    my $load = $self->{with} ? 'load_module {{module}};' : '';
    $main = "worker_processes 1;\n$main" unless $main =~ /\bworker_processes\b/;
    my $text = "$load\n$user\n$main\nevents { $events }\n";
    $self->{status_port} = $self->{with} && defined $part{http} && (!defined $part{status} || $part{status});
    if (defined $part{http}) {
        my $status = $self->{status_port} ? <<'EOC' : '';
    server {
        listen 127.0.0.1:{{port:status}} backlog=64;
        server_name status.test;
        access_log off;
        request_cpu off;
        location / { request_cpu_status; }
    }
EOC
        my $log = defined $part{log} && !$part{log} ? 'access_log off;'
            : $self->_log_format . "\n    access_log {{dir}}/access.log facts;";
        my $temp = join "\n    ", map { "${_}_temp_path {{dir}}/temp/$_;" } grep {
            $self->{about} !~ /--without-http_${_}_module/
        } qw(proxy fastcgi uwsgi scgi);
        $text .= <<"EOC";
http {
    client_body_temp_path {{dir}}/temp/body;
    $temp
    root {{dir}}/html;
    default_type text/plain;
    $log
$http
$status
}
EOC
    }
    return "$text$extra\n";
}

sub _write_config {
    my ($self, %part) = @_;
    my $text = $self->fill($self->_config(%part));
    # Where NGINX would write to by itself is not for a test to touch.
    $text = "pid $self->{dir}/nginx.pid;\n$text"                unless $text =~ /^\s*pid\s/m;
    $text = "lock_file $self->{dir}/nginx.lock;\n$text"         unless $text =~ /^\s*lock_file\s/m;
    my $level = $ENV{TEST_LOG_LEVEL} || 'info';
    $text = "error_log $self->{dir}/error.log $level;\n$text"   unless $text =~ /^\s*error_log\s/m;
    $self->write_file("$self->{dir}/nginx.conf", $text);
}

sub write_file {
    my ($self, $path, $content) = @_;
    open my $file, '>', $path or die "cannot write $path: $!\n";
    binmode $file;
    print {$file} $content;
    close $file;
}

# A new key, "rsa" or "ecdsa", and a certificate of its own making: $name.key and $name.pem in the test's folder.
my %new_key = (rsa => [ '-newkey', 'rsa:2048' ], ecdsa => [ '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256' ]);
sub certificate {
    my ($self, $kind, $name) = @_;
    my ($status, $output) = run_command('openssl', 'req', '-x509', '-nodes', @{ $new_key{$kind} }, '-days', 2,
        '-subj', "/CN=$name.test", '-keyout', "$self->{dir}/$name.key", '-out', "$self->{dir}/$name.pem");
    die $output if $status;
}

# A file below the document root.
sub html {
    my ($self, $name, $content) = @_;
    my $path = "$self->{dir}/html/$name";
    make_path(dirname($path));
    $self->write_file($path, $content);
}

sub slurp {
    my ($self, $path) = @_;
    open my $file, '<', $path or return '';
    binmode $file;
    local $/;
    my $text = <$file>;
    return defined $text ? $text : '';
}

# What `nginx -t` says of a configuration: its exit status, and its messages.
sub try_config {
    my ($self, %part) = @_;
    $self->_write_config(%part);
    my ($status, $output) = run_command($self->{binary}, '-t', '-e', 'stderr', '-p', "$self->{dir}/", '-c', "$self->{dir}/nginx.conf");
    return ($status, $output . $self->slurp("$self->{dir}/error.log"));
}

#
# Life of the server
#

sub start {
    my ($self, %part) = @_;
    $self->{part} = \%part;
    delete $self->{log_read};
    $self->_write_config(%part);
    my $master = $part{single_process} ? 'master_process off;' : 'master_process on;';
    # A master whose first parent is still there takes no USR2 (ngx_signal_handler).
    my $daemon = $part{daemon} ? 'on' : 'off';
    _adopt_orphans() if $part{daemon};
    unlink "$self->{dir}/nginx.pid";

    defined(my $pid = fork) or die "fork: $!\n";
    if ($pid == 0) {
        _die_with_parent();
        # The limit of the test must not become an alarm of NGINX.
        alarm 0;
        $SIG{$_} = 'DEFAULT' for qw(ALRM INT TERM HUP PIPE);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/stderr.log";
        open STDERR, '>>', "$self->{dir}/stderr.log";
        my @command = (
            $self->{binary}, '-p', "$self->{dir}/", '-e', "$self->{dir}/error.log", '-c', "$self->{dir}/nginx.conf",
            '-g', "daemon $daemon; $master",
        );
        unshift @command, @{ $part{before} } if $part{before};    # a command that executes NGINX in its own place
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    $self->{single} = $part{single_process};
    if ($part{daemon}) {
        waitpid $pid, 0;
        wait_until($PATIENCE, sub { ($pid) = $self->slurp("$self->{dir}/nginx.pid") =~ /^(\d+)$/ });
        $self->{pid} = $pid or die "NGINX did not start: " . $self->slurp("$self->{dir}/error.log");
    }

    my $ready = wait_until($PATIENCE, sub {
        if (waitpid($pid, POSIX::WNOHANG()) == $pid) { delete $self->{pid}; return 'gone' }
        return unless -s "$self->{dir}/nginx.pid" && $self->workers >= $self->expected_workers;
        return 1 unless $self->{status_port};
        my $answer = eval { $self->get('/', port => 'status', timeout => 10) };
        return $answer && $answer->{status} == 200;
    });
    if (!$ready || $ready eq 'gone') {
        diag($self->slurp("$self->{dir}/stderr.log") . $self->slurp("$self->{dir}/error.log"));
        die "NGINX did not start\n";
    }
    return $self;
}

sub _prctl {
    my ($option, $value) = @_;
    my $prctl = { x86_64 => 157, aarch64 => 167 }->{ (POSIX::uname())[4] } or return;
    eval { syscall($prctl, $option, $value, 0, 0, 0) };
}

# PR_SET_CHILD_SUBREAPER: a daemon, or a new master whose old one is gone, becomes this process' child.
sub _adopt_orphans { _prctl(36, 1) }

# PR_SET_PDEATHSIG: should the test be killed in a way that leaves no time to clean up, its NGINX goes as well.
sub _die_with_parent { _prctl(1, POSIX::SIGTERM()) }

sub master { $_[0]{pid} }

# Processes of this server: { pid => title }, without the master.
sub processes {
    my ($self) = @_;
    my %title;
    for my $stat (glob '/proc/[0-9]*/stat') {
        my $line = $self->slurp($stat);
        next unless $line =~ /^(\d+) \(.*\) (\S) (\d+) /s && $3 == $self->{pid} && $2 ne 'Z';
        my ($pid, $title) = ($1, $self->slurp("/proc/$1/cmdline"));
        $title =~ s/\0/ /g;
        $title{$pid} = $title;
    }
    return \%title;
}

# Worker processes that serve; with old => 1 those that a reload told to finish.
sub workers {
    my ($self, %which) = @_;
    return $self->{pid} if $self->{single};
    my $title = $self->processes;
    my @pids = grep {
        $title->{$_} =~ /worker process/ && ($which{all} || (($title->{$_} =~ /shutting down/ ? 1 : 0) == ($which{old} ? 1 : 0)))
    } keys %$title;
    for my $pid (@pids) { $self->{begun}{$pid} = $self->sched_ns($pid) unless defined $self->{begun}{$pid} }
    return @pids = sort { $a <=> $b } @pids;
}

sub worker { ($_[0]->workers)[0] }

# The master starts them one after the other, and answers are there before the last one is.
sub expected_workers {
    my ($self) = @_;
    return 1 if $self->{single};
    return ($self->{part}{main} || '') =~ /\bworker_processes\s+(\d+)/ ? $1 : 1;
}

sub reload {
    my ($self, %part) = @_;
    $self->{part} = { %{ $self->{part} }, %part };
    $self->_write_config(%{ $self->{part} }) if %part;
    my %old = map { $_ => 1 } $self->workers;
    kill HUP => $self->{pid};
    my $done = wait_until($PATIENCE, sub {
        my @now = $self->workers;
        return @now >= $self->expected_workers && !grep { $old{$_} } @now;
    });
    return $done;
}

# Lets the master, started with daemon => 1, execute another one that serves beside it, maybe with another configuration. From
# then on this is about the new one; the old one is told to go by retire().
sub upgrade {
    my ($self, %part) = @_;
    $self->{part} = { %{ $self->{part} }, %part };
    $self->_write_config(%{ $self->{part} }) if %part;
    my $old = $self->{pid};
    kill USR2 => $old;
    my $ready = wait_until($PATIENCE, sub {
        my ($new) = $self->slurp("$self->{dir}/nginx.pid") =~ /^(\d+)$/;
        return unless $new && $new != $old && -e "$self->{dir}/nginx.pid.oldbin";
        local $self->{pid} = $new;
        return $self->workers >= $self->expected_workers && $new;
    }) or return;
    @$self{qw(pid old)} = ($ready, $old);
    return $ready;
}

# Ends the old master after an upgrade: first its workers, then itself. Returns its exit status.
sub retire {
    my ($self, %how) = @_;
    my $new = $self->{pid};
    $self->{pid} = delete $self->{old};
    kill WINCH => $self->{pid};
    my $idle = wait_until($PATIENCE, sub { !$self->workers(all => 1) });
    my $status = $self->stop(%how);
    $self->{pid} = $new;
    return $idle ? $status : 'old workers stay';
}

# An upgrade that is taken back: the new master ends, and the old one goes on.
sub take_back {
    my ($self) = @_;
    my $old = delete $self->{old};
    kill QUIT => $self->{pid};
    my $gone = wait_until($PATIENCE, sub { !kill(0, $self->{pid}) && !-e "$self->{dir}/nginx.pid.oldbin" });
    $self->{pid} = $old;
    return $gone;
}

# Ends the server and returns its exit status; gracefully unless another signal is named.
sub stop {
    my ($self, %how) = @_;
    my $pid = delete $self->{pid} or return $self->{left};
    my @children = do { local $self->{pid} = $pid; keys %{ $self->processes } };
    kill +($how{signal} || 'QUIT') => $pid;
    my $limit = time + ($how{within} || $PATIENCE);
    my ($status, $forced);
    while (1) {
        my $got = waitpid($pid, POSIX::WNOHANG());
        if ($got == $pid) { $status = $?; last }
        if ($got < 0) { $status = -1; last }
        if (time > $limit) {
            # A worker outlives a master that is killed, so it goes first.
            kill KILL => @children, $pid;
            $forced = 1;
            $limit = time + 5;
        }
        sleep 0.01;
    }
    kill KILL => grep { $self->_is_nginx($_) } @children if $forced;
    return $self->{left} = $forced ? 'did not stop by itself' : $status;
}

sub _is_nginx { my ($self, $pid) = @_; return $self->slurp("/proc/$pid/cmdline") =~ /^nginx: / }

sub _clean {
    my ($self) = @_;
    return if $$ != $self->{owner};
    $_->_clean for splice @{ $self->{children} };
    for (delete $self->{old}, $self->{pid}) {
        next unless $_;
        $self->{pid} = $_;
        $self->stop(signal => 'TERM', within => 3);
    }
    Test::RequestCpu->forget($self);
}

sub DESTROY { my ($self) = @_; local ($?, $@, $!); $self->_clean if $self->{pid} && $$ == $self->{owner} }

# A helper process of the test, stopped with the server: a function in a child, or a command.
sub spawn {
    my ($self, @what) = @_;
    my $child = Test::RequestCpu::Child->new(@what);
    push @{ $self->{children} }, $child;
    return $child;
}

#
# Talking to it
#

sub connect {
    my ($self, $port, %option) = @_;
    return Test::RequestCpu::Connection->new(port => $port =~ /^\d+$/ ? $port : $self->port($port), %option);
}

# One request on a connection of its own.
sub get {
    my ($self, $uri, %option) = @_;
    my $port = delete $option{port} || 'http';
    my $connection = $self->connect($port, timeout => delete $option{timeout});
    $connection->request($uri, %option, close => 1);
    my $answer = $connection->response(method => $option{method});
    $connection->close;
    return $answer;
}

# Lines of the access log, as soon as there are $count for which the filter is true. The log is written after the client has
# its answer, so every reader has to wait for it.
sub logged {
    my ($self, $count, $filter, %option) = @_;
    my @lines;
    wait_until($option{timeout} || $PATIENCE, sub {
        @lines = grep { !$filter || $filter->($_) } $self->log_lines;
        return @lines >= $count;
    });
    if (@lines < $count) {
        diag("waited for $count lines in the access log, there are " . @lines);
        die "access log is not complete\n";
    }
    return @lines;
}

sub log_lines {
    my ($self) = @_;
    my $path = "$self->{dir}/access.log";
    my $read = $self->{log_read};
    # lines that were decoded before are kept, unless it is another file, or it was emptied
    $read = $self->{log_read} = { offset => 0, lines => [], file => '' } if !$read || $read->{offset} > (-s $path || 0) || $read->{file} ne _identity($path);
    open my $file, '<', $path or return;
    $read->{file} = _identity($path);
    binmode $file;
    seek $file, $read->{offset}, 0;
    local $/;
    my $text = <$file>;
    my $json = JSON::PP->new;
    # the last line may be half written
    while (defined $text && $text =~ /\G(.*)\n/g) {
        my $line = $1;
        $read->{offset} += 1 + length $line;
        push @{ $read->{lines} }, eval { $json->decode($line) } || ();
    }
    return @{ $read->{lines} };
}

sub _identity { my ($path) = @_; my ($device, $inode) = stat $path; return defined $inode ? "$device $inode" : '' }

sub clear_log {
    my ($self) = @_;
    # A request whose answer is already here may still have its line to write.
    $self->quiet;
    truncate "$self->{dir}/access.log", 0;    # NGINX appends
    delete $self->{log_read};
}

sub status {
    my ($self, $query, %option) = @_;
    my $answer = $self->get('/?format=json' . (defined $query ? "&$query" : ''), port => 'status', %option);
    die "status page answers $answer->{status}: $answer->{body}\n" if $answer->{status} != 200;
    return JSON::PP->new->utf8->decode($answer->{body});
}

# One account, or an empty one with zeros for what every account has.
sub account {
    my ($self, $zone, $key) = @_;
    my $zones = $self->status->{zones};
    my $found = $zones->{$zone}{keys}{$key};
    return $found || { requests => 0, cpu_ns => 0, wakeups => 0, sent_bytes => 0, received_bytes => 0, in_flight => 0, responses => {} };
}

# The account once it has so many requests: counting is the last thing that happens to a request.
sub account_with {
    my ($self, $zone, $key, $requests) = @_;
    my $account;
    wait_until($PATIENCE, sub { $account = $self->account($zone, $key); return $account->{requests} >= $requests });
    return $account;
}

# Samples of the Prometheus text: [ name, { label => value }, number ].
sub prometheus {
    my ($self, $query) = @_;
    my $answer = $self->get('/?format=prometheus' . (defined $query ? "&$query" : ''), port => 'status');
    die "status page answers $answer->{status}: $answer->{body}\n" if $answer->{status} != 200;
    return (parse_prometheus($answer->{body}), $answer->{body});
}

sub parse_prometheus {
    my ($text) = @_;
    my %unescape = ('\\' => '\\', '"' => '"', n => "\n");
    my @samples;
    for my $line (split /\n/, $text) {
        next if $line eq '' || $line =~ /^#/;
        $line =~ /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/s or die "no Prometheus sample: $line\n";
        my ($name, $labels, $value) = ($1, defined $2 ? $2 : '', $3);
        my %label;
        while ($labels =~ /\G([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)",?/gcs) {
            my ($label, $escaped) = ($1, $2);
            $escaped =~ s/\\(.)/defined $unescape{$1} ? $unescape{$1} : die "bad escape in $line\n"/ges;
            $label{$label} = $escaped;
        }
        die "bad labels: $line\n" if (pos($labels) || 0) != length $labels;
        push @samples, [ $name, \%label, $value ];
    }
    return \@samples;
}

#
# What the kernel knows
#

# CPU nanoseconds of one thread, by default the main one.
sub sched_ns {
    my ($self, $pid, $tid) = @_;
    $tid ||= $pid;
    my ($ns) = $self->slurp("/proc/$pid/task/$tid/schedstat") =~ /^(\d+)/;
    return $ns;
}

# Sum over the threads of a worker that are not its main one.
sub pool_ns {
    my ($self, $pid) = @_;
    my @tids = grep { $_ != $pid } map { m{/(\d+)$} } glob "/proc/$pid/task/[0-9]*";
    return sum(map { $self->sched_ns($pid, $_) || 0 } @tids);
}

# Waits until processes sleep and stay asleep. One that waits for a processor uses no CPU either, but does not sleep.
sub quiet {
    my ($self, @pids) = @_;
    @pids = $self->workers unless @pids;
    my $before = '';
    wait_until(20, sub {
        my $now = join ' ', map { $self->_rest($_) } @pids;
        my $same = $now eq $before && $now !~ /awake/;
        $before = $now;
        return 1 if $same;
        sleep 0.03;
        return;
    });
}

# What changes when the main thread of a process runs; "awake" if it does not sleep.
sub _rest {
    my ($self, $pid) = @_;
    my ($state) = $self->slurp("/proc/$pid/stat") =~ /^\d+ \(.*\) (\S)/s or return 'gone';
    return $state =~ /[SZ]/ ? $self->slurp("/proc/$pid/task/$pid/schedstat") : 'awake';
}

# CPU of all workers' main threads during a function.
sub measured {
    my ($self, $code) = @_;
    my @pids = $self->workers;
    $self->quiet(@pids);
    my $before = sum(map { $self->sched_ns($_) } @pids);
    $code->();
    $self->quiet(@pids);
    return sum(map { $self->sched_ns($_) } @pids) - $before;
}

# As measured(), and what is left of it without the event loop itself: a worker that sleeps and wakes often spends a good part
# of its CPU on that, more on some machines than on others. The requests for the status are in the loop's part and not in what
# was measured, so a function has to be worth some milliseconds.
sub worked {
    my ($self, $code) = @_;
    my $before = sum(map { $_->{loop_ns} } @{ $self->status->{workers} });
    my $used = $self->measured($code);
    my $loop = sum(map { $_->{loop_ns} } @{ $self->status->{workers} }) - $before;
    return ($used, $used - $loop);
}

# Nanoseconds that a function's requests have in the log, which are so many lines, and what the workers' threads used in the same
# moment: whatever a machine makes dearer is dearer in both.
sub charged_and_used {
    my ($self, $count, $code) = @_;
    $self->clear_log;
    my $used = $self->measured(sub { $code->(); $self->logged($count) });
    return (sum(map { $_->{ns} } $self->log_lines), $used);
}

# The processors that this test may run on.
sub processors {
    my ($self) = @_;
    my ($list) = $self->slurp('/proc/self/status') =~ /^Cpus_allowed_list:\s*(\S+)/m;
    return map { /^(\d+)-(\d+)$/ ? ($1 .. $2) : $_ } split /,/, defined $list ? $list : '0';
}

# worker_cpu_affinity that pins every worker to one processor.
sub affinity {
    my ($self, $processor) = @_;
    return 'worker_cpu_affinity ' . '1' . '0' x $processor . ';';
}

#
# What holds at the end of every test
#

# The books are exact; and they are about the thread's real time.
sub check_books {
    my ($self, %option) = @_;
    my $name = $option{name} || 'books';
    $self->quiet;
    my %before = map { $_ => $self->sched_ns($_) } $self->workers;
    my $workers = $self->status($option{query})->{workers};
    # the kernel's figure of a thread that runs may be as old as its last tick
    $self->quiet;
    my %after = map { $_ => $self->sched_ns($_) } keys %before;
    my @wrong = books_faults($workers);
    # CPU before the hook went in is not the module's: what a worker had used when it was first seen, which is when it has begun
    # (ngx_worker_process_cycle gives it its title then), and some milliseconds.
    my $start_ns = ($option{start_ms} || 5) * 1e6;
    my %seen;
    for my $worker (@$workers) {
        my $pid = $worker->{pid};
        next unless defined $before{$pid} && defined $after{$pid};
        $seen{$pid} = 1;
        my $counted = $worker->{thread_cpu_ns};
        push @wrong, "worker $pid counted $counted ns, its thread had $after{$pid} ns" if $counted > $after{$pid} * 1.001 + 2e5;
        push @wrong, "worker $pid counted $counted ns of its thread's $before{$pid} ns"
            if $counted < $before{$pid} * 0.97 - $start_ns - ($self->{begun}{$pid} || 0);
    }
    push @wrong, "worker $_ is missing in the status" for grep { !$seen{$_} } keys %before;
    ok(!@wrong, "$name: every worker's thread CPU is charged to requests, connections without one, the loop, or other")
        or diag(join "\n", @wrong);
    return $workers;
}

sub books_faults {
    my ($workers) = @_;
    my @wrong;
    for my $worker (@$workers) {
        my $all = $worker->{charged_ns} + $worker->{no_request_ns} + $worker->{loop_ns} + $worker->{other_ns};
        push @wrong, "worker $worker->{worker}: thread_cpu_ns is $worker->{thread_cpu_ns}, its parts are $all in sum"
            if $all != $worker->{thread_cpu_ns};
    }
    return @wrong;
}

# Messages of the error log that this test provokes on purpose.
sub expect_log { my ($self, @patterns) = @_; push @{ $self->{expected} }, @patterns }

sub error_log { my ($self) = @_; return $self->slurp("$self->{dir}/error.log") }

sub log_faults {
    my ($self) = @_;
    my @bad = grep { /\[(?:alert|emerg|crit)\]/ } split /\n/, $self->error_log;
    for my $pattern (@{ $self->{expected} }) { @bad = grep { $_ !~ $pattern } @bad }
    push @bad, grep { /panicked|SUMMARY|free\(\)|malloc|corrupt/ } split /\n/, $self->slurp("$self->{dir}/stderr.log");
    return @bad;
}

# Last words of a test: the books, a clean end, a clean log.
sub done {
    my ($self, %option) = @_;
    if ($self->{pid}) {
        $self->check_books(%option) if $self->{status_port} && !$option{no_books};
        my $left = $self->stop;
        is($left, 0, 'NGINX ends by itself');
    }
    $_->_clean for splice @{ $self->{children} };
    my @bad = $self->log_faults;
    ok(!@bad, 'nothing at alert, emerg or crit in the error log') or diag(join "\n", @bad[0 .. ($#bad > 20 ? 20 : $#bad)]);
    $self->_clean;
    unless ($option{more}) { done_testing() }
}

#
# Small things
#

sub wait_until {
    my ($seconds, $condition) = @_;
    my $limit = time + $seconds;
    my $pause = 0.005;
    while (1) {
        my $value = $condition->();
        return $value if $value;
        return if time > $limit;
        # what takes long is looked at less often, since to look takes time as well
        sleep $pause;
        $pause *= 1.3 if $pause < 0.05;
    }
}

# What is known of several kinds of work on a machine whose speed changes: each is done in turn, and again, until what is to be
# shown of the figures holds, but at most so many times. Work gets dearer by what else a machine does, and never cheaper than it
# is, so of each kind it is the least figure. Returns them in the order of the functions.
sub least {
    my ($holds, @kinds) = @_;
    my ($least_rounds, $most_rounds) = (3, 60);
    my @least;
    for my $round (1 .. $most_rounds) {
        for my $n (0 .. $#kinds) {
            my $figure = $kinds[$n]->();
            $least[$n] = $figure if !defined $least[$n] || $figure < $least[$n];
        }
        last if $round >= $least_rounds && $holds->(@least);
    }
    return @least;
}

sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[@sorted / 2] }
sub sum { my $sum = 0; $sum += $_ for @_; return $sum }

# Whether a is the part of b that two limits allow.
sub within {
    my ($part, $whole, $low, $high, $name) = @_;
    my $ratio = $whole ? $part / $whole : 0;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    diag(sprintf '%.4f in %s to %s: %s', $ratio, $low, $high, $name) if $ENV{TEST_VERBOSE};
    return ok($whole > 0 && $ratio >= $low && $ratio <= $high, $name)
        || diag(sprintf '%s of %s is %.4f, not in %s to %s', $part, $whole, $ratio, $low, $high);
}

# Runs a command without a shell; (exit status, output of both streams).
sub run_command {
    my (@command) = @_;
    my %option = ref $command[-1] eq 'HASH' ? %{ pop @command } : ();
    my $in = File::Temp->new;
    print {$in} $option{input} if defined $option{input};
    $in->flush;
    my $output = File::Temp->new;
    defined(my $pid = fork) or die "fork: $!\n";
    if ($pid == 0) {
        alarm 0;
        $SIG{$_} = 'DEFAULT' for qw(ALRM INT TERM HUP PIPE);
        _die_with_parent();
        open STDIN, '<', $in->filename;
        open STDOUT, '>', $output->filename;
        $option{stdout_only} ? open(STDERR, '>', '/dev/null') : open(STDERR, '>&STDOUT');
        exec { $command[0] } @command or POSIX::_exit(127);
    }
    my $limit = time + ($option{timeout} || 60);
    while (waitpid($pid, POSIX::WNOHANG()) == 0) {
        if (time > $limit) { kill KILL => $pid; waitpid $pid, 0; last }
        sleep 0.005;
    }
    my $status = $? >> 8 || ($? ? 255 : 0);
    open my $file, '<', $output->filename;
    binmode $file;
    local $/;
    my $text = <$file>;
    return ($status, defined $text ? $text : '');
}

# Rewrite rules that burn CPU in one piece, within one wakeup: a pattern whose cost doubles with every letter of the argument x
# (about 35 ms at twenty letters), and which stays below PCRE's own limit up to there.
sub burn_rules {
    my ($count) = @_;
    return join "\n", map { 'if ($arg_x ~ "^(a+)+$") { set $burnt ' . $_ . '; }' } 1 .. $count;
}

sub burn_text { my ($letters) = @_; return 'a' x ($letters || 20) . 'b' }

# Text that keeps a compressor busy; the same on every run.
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

# A function in the background whose result (a data structure) can be waited for.
sub detached {
    my ($code) = @_;
    return Test::RequestCpu::Child->new(sub {
        my ($result) = @_;
        print {$result} JSON::PP->new->allow_nonref->encode($code->());
    });
}

package Test::RequestCpu::Child;

use strict;
use warnings;

use POSIX ();
use Scalar::Util ();
use Time::HiRes qw(sleep time);

sub new {
    my ($class, @what) = @_;
    pipe my $read, my $write or die "pipe: $!\n";
    defined(my $pid = fork) or die "fork: $!\n";
    if ($pid == 0) {
        close $read;
        # A group of its own, so that whatever it starts in turn ends with it.
        setpgrp 0, 0;
        alarm 0;
        $SIG{$_} = 'DEFAULT' for qw(ALRM INT TERM HUP);
        Test::RequestCpu::_die_with_parent();
        if (ref $what[0]) {
            $write->autoflush(1);
            my $fine = eval { $what[0]->($write, @what[1 .. $#what]); 1 };
            print STDERR "# helper process: $@" unless $fine;
            close $write;
            POSIX::_exit($fine ? 0 : 1);
        }
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $write;
        open STDERR, '>&', $write;
        exec { $what[0] } @what or POSIX::_exit(127);
    }
    close $write;
    # Before anyone can signal the group, it must exist.
    eval { POSIX::setpgid($pid, $pid) };
    my $self = bless { pid => $pid, read => $read, owner => $$ }, $class;
    Test::RequestCpu->remember($self);
    return $self;
}

sub pid { $_[0]{pid} }

# What it wrote, once it has ended.
sub output {
    my ($self) = @_;
    local $/;
    my $text = readline $self->{read};
    $self->wait;
    return defined $text ? $text : '';
}

sub result {
    my ($self) = @_;
    my $text = $self->output;
    die "helper process left no result\n" if $text eq '';
    return JSON::PP->new->allow_nonref->decode($text);
}

sub wait {
    my ($self, $limit) = @_;
    return $self->{status} if !$self->{pid};
    my $end = time + ($limit || 60);
    while (time < $end) {
        if (waitpid($self->{pid}, POSIX::WNOHANG()) != 0) {
            $self->{status} = $?;
            delete $self->{pid};
            Test::RequestCpu->forget($self);
            return $self->{status};
        }
        sleep 0.005;
    }
    return;
}

sub end { $_[0]->_clean }

sub _clean {
    my ($self) = @_;
    my $pid = $self->{pid} or return;
    return if $$ != $self->{owner};
    kill TERM => -$pid;
    if (!defined $self->wait(1)) {
        kill KILL => -$pid;
        $self->wait(5);
    }
    delete $self->{pid};
    Test::RequestCpu->forget($self);
}

sub DESTROY { my ($self) = @_; local ($?, $@, $!); $self->_clean if $self->{pid} && $$ == $self->{owner} }

1;
