package Test::RequestCpu::Browser;

# A headless Chromium, driven through WebDriver (https://www.w3.org/TR/webdriver2/): JSON over HTTP. Core Perl only.

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 ();
use Test::RequestCpu ();
use Time::HiRes qw(sleep time);

# The member that stands for an element in WebDriver's JSON.
my $ELEMENT = 'element-6066-11e4-a52e-4f735466cecf';

sub _find {
    my (@names) = @_;
    for my $name (@names) {
        for my $folder (split /:/, $ENV{PATH} || '') { return "$folder/$name" if -x "$folder/$name" }
    }
    return undef;
}

# The name of a missing program, or nothing.
sub missing {
    return 'chromium' unless _find('chromium', 'chromium-browser', 'google-chrome');
    return 'chromedriver' unless _find('chromedriver');
    return '';
}

# dir: the folder for the browser's files
sub new {
    my ($class, %option) = @_;
    my $port = Test::RequestCpu::free_port();
    my $self = bless { owner => $$, url => "http://127.0.0.1:$port" }, $class;
    # otherwise HTTP::Tiny would use a proxy of the environment
    $self->{http} = HTTP::Tiny->new(timeout => 60, proxy => undef, http_proxy => undef, https_proxy => undef);
    local $ENV{HOME} = $option{dir};
    $self->{driver} = Test::RequestCpu::Child->new(_find('chromedriver'), "--port=$port", '--log-level=SEVERE');
    my $ready = Test::RequestCpu::wait_until(20,
        sub { sleep 0.05; my $s = eval { $self->call(GET => '/status') }; return $s && $s->{ready} });
    die "chromedriver does not answer\n" unless $ready;
    my $answer = $self->call(POST => '/session', { capabilities => { alwaysMatch => {
        browserName => 'chrome',
        'goog:loggingPrefs' => { browser => 'ALL', performance => 'ALL' },
        'goog:chromeOptions' => {
            binary => _find('chromium', 'chromium-browser', 'google-chrome'),
            args => [
                '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
                    '--disable-dev-shm-usage',
                '--disable-background-networking', '--disable-component-update', '--disable-sync',
                '--disable-extensions',
                '--disable-default-apps', '--metrics-recording-only', '--no-default-browser-check', '--no-proxy-server',
                "--user-data-dir=$option{dir}/chromium",
            ],
        },
    } } });
    $self->{session} = "/session/$answer->{sessionId}";
    $self->{pid} = $answer->{capabilities}{'goog:processID'};
    $self->{version} = "$answer->{capabilities}{browserName} $answer->{capabilities}{browserVersion}";
    Test::RequestCpu->remember($self);
    $self->size($option{width} || 1440, $option{height} || 900);
    return $self;
}

sub version { $_[0]{version} }

sub call {
    my ($self, $method, $path, $body) = @_;
    my $json = JSON::PP->new->utf8->allow_nonref;
    my $answer = $self->{http}->request($method, "$self->{url}$path", {
        headers => { 'Content-Type' => 'application/json; charset=utf-8' },
        $method eq 'POST' ? (content => $json->encode($body || {})) : (),
    });
    my $value = eval { $json->decode($answer->{content})->{value} };
    die "WebDriver, $method $path: " . (ref $value && $value->{message} || "$answer->{status} $answer->{content}")
        . "\n"
        if !$answer->{success};
    return $value;
}

sub _do { my ($self, $method, $path, $body) = @_; return $self->call($method, "$self->{session}$path", $body) }

sub go { my ($self, $url) = @_; return $self->_do(POST => '/url', { url => $url }) }
sub refresh { my ($self) = @_; return $self->_do(POST => '/refresh') }

# The value of a JavaScript expression, or of a body that begins with return or const.
sub js {
    my ($self, $script, @arguments) = @_;
    $script = "return ($script)" unless $script =~ /^\s*(?:return|const)\b/;
    return $self->_do(POST => '/execute/sync', { script => $script, args => \@arguments });
}

# Waits until an expression is true. Returns its value.
sub wait_for {
    my ($self, $seconds, $script, @arguments) = @_;
    return Test::RequestCpu::wait_until($seconds,
        sub { my $value = $self->js($script, @arguments); sleep 0.05 unless $value; return $value });
}

sub find {
    my ($self, $css) = @_;
    return $self->_do(POST => '/element', { using => 'css selector', value => $css })->{$ELEMENT};
}

# Clicks an element as soon as it is clickable and does not move: a message moves the elements below it.
sub click {
    my ($self, $css) = @_;
    my ($end, $was) = (time + 10, '');
    while (1) {
        my $is = $self->js('const r = document.querySelector(arguments[0])?.getBoundingClientRect(); return r ? `${r.x} ${r.y} ${r.width} ${r.height}` : ""', $css);
        if ($is ne '' && $is eq $was) {
            return 1 if eval { $self->_do(POST => '/element/' . $self->find($css) . '/click'); 1 };
            die $@ if time > $end;
        }
        die "nothing to be clicked, or it does not stand still: $css\n" if time > $end;
        $was = $is;
        sleep 0.1;
    }
}
sub text  { my ($self, $css) = @_; return $self->js('document.querySelector(arguments[0])?.textContent', $css) }

sub type {
    my ($self, $css, $text) = @_;
    return $self->_do(POST => '/element/' . $self->find($css) . '/value', { text => $text });
}

# Sends keys to the focused element: characters, or the names of keys without a character.
my %key = (
    Enter => "\x{E007}", Tab => "\x{E004}", Escape => "\x{E00C}", Space => ' ', Up => "\x{E013}", Down => "\x{E015}",
    Home => "\x{E011}", End => "\x{E010}", PageUp => "\x{E00E}", PageDown => "\x{E00F}",
);
sub press {
    my ($self, @keys) = @_;
    my @actions = map { my $key = $key{$_} || $_; map { { type => $_, value => $key } } qw(keyDown keyUp) } @keys;
    return $self->_do(POST => '/actions', { actions => [ { type => 'key', id => 'keyboard', actions => \@actions } ] });
}

# Runs a command of Chromium's own protocol.
sub cdp {
    my ($self, $command, %parameters) = @_;
    return $self->_do(POST => '/goog/cdp/execute', { cmd => $command, params => \%parameters });
}

sub size {
    my ($self, $width, $height, %option) = @_;
    return $self->cdp('Emulation.setDeviceMetricsOverride', width => $width, height => $height,
        deviceScaleFactor => $option{scale} || 1, mobile => $option{mobile} ? JSON::PP::true : JSON::PP::false);
}

sub prefer {
    my ($self, $scheme) = @_;
    return $self->cdp('Emulation.setEmulatedMedia',
        features => [ { name => 'prefers-color-scheme', value => $scheme } ]);
}

sub screenshot {
    my ($self, $path) = @_;
    open my $file, '>', $path or die "cannot write $path: $!\n";
    binmode $file;
    print {$file} MIME::Base64::decode_base64($self->_do(GET => '/screenshot'));
    close $file;
}

# Messages of the page and of the browser since the last call.
sub console {
    my ($self) = @_;
    return map { "$_->{level}: $_->{message}" } @{ $self->_do(POST => '/se/log', { type => 'browser' }) }
}

# Addresses of all requests since the last call.
sub requests {
    my ($self) = @_;
    my @events = map { JSON::PP->new->decode($_->{message})->{message} } @{
        $self->_do(POST => '/se/log', { type => 'performance' }) };
    return map { $_->{params}{request}{url} } grep { $_->{method} eq 'Network.requestWillBeSent' } @events;
}

sub _clean {
    my ($self) = @_;
    return if $$ != $self->{owner} || $self->{gone}++;
    local $self->{http} = HTTP::Tiny->new(timeout => 5, proxy => undef, http_proxy => undef, https_proxy => undef);
    eval { $self->_do(DELETE => '') } if $self->{session};
    # the process that the driver has named, if it still runs
    kill KILL => $self->{pid} if $self->{pid} && kill 0 => $self->{pid};
    $self->{driver}->end;
    Test::RequestCpu->forget($self);
}

sub end { $_[0]->_clean }
sub DESTROY { my ($self) = @_; local ($?, $@, $!); $self->_clean }

1;
