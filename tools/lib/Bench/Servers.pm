# NGINX servers for scripts/bench: their files, configurations and processes.
package Bench::Servers;

use strict;
use warnings;
use Bench::Processes qw(%option $dir @processors @running urgent);
use Exporter qw(import);
use Time::HiRes qw(sleep);
use Tool qw(build free_port lines spew temp_paths words);

our @EXPORT_OK = qw($nginx build_nginx configuration kinds nginx prepare_files server start start_origin version);

our ($module, $nginx);
sub build_nginx { ($module, $nginx) = build(); return }

# What is compared: name; the clock, none where the module is not loaded, an empty one where it is not used; another
# module; more directives. The first one is the reference.
sub kinds {
    my @kinds = (['without'], ['again'], ['unused', ''], ['thread', 'thread'], ['hybrid', 'hybrid']);
    if (defined(my $before = $option{against})) {
        @kinds = (['before', 'hybrid', $before], ['again', 'hybrid', $before], ['hybrid', 'hybrid']);
    }
    push @kinds, ['logged', 'hybrid'] if $option{logged};
    return @kinds;
}

# What the clients ask for, the certificates, and the locations, which are the same on all servers but for the zones.
sub prepare_files {
    mkdir "$dir/$_" for qw(html html/gzip html/log html/zones-3 html/zones-8 html/limit html/keys);
    spew("$dir/html/$_/1k", 'x' x 1024) for qw(. log zones-3 zones-8 limit keys);
    spew("$dir/html/100k", 'x' x 102_400);
    spew("$dir/html/10m", 'x' x 10_485_760);
    # as many words as in a page
    spew("$dir/html/gzip/text", substr words(30_000), 0, 102_400);
    my %key = (rsa => 'rsa:2048', ecdsa => 'ec -pkeyopt ec_paramgen_curve:P-256');
    for my $kind (keys %key) {
        system("openssl req -x509 -newkey $key{$kind} -nodes -days 2 -subj /CN=bench -keyout '$dir/$kind.key'"
            . " -out '$dir/$kind.crt' 2>/dev/null") == 0 or die "bench: openssl failed\n";
    }
}

# Starts an NGINX of this kind in front of an origin, for a case.
sub start {
    my ($case, $kind, $origin) = @_;
    my $server = server(@$kind);
    launch($server, configuration($case, $server, $origin));
    return $server;
}

sub server {
    my ($name, $clock, $other, $directives) = @_;
    return {
        name => $name, clock => $clock, module => $other // $module, directives => $directives // '',
        prefix => "$dir/$name", port => { map { $_ => free_port() } qw(plain ecdsa rsa h2) },
    };
}

# The upstream of "proxy" and "cache": the same NGINX without the module, on the client's processor, or another one.
sub start_origin {
    my ($processor) = @_;
    my $origin = { name => 'origin', prefix => "$dir/origin", port => { plain => free_port() } };
    launch($origin, <<"CONF");
worker_cpu_affinity ${\ mask($processor // $processors[1])};
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 1000000000; open_file_cache max=10;
    ${\ temp_paths($origin->{prefix}) }
    server { listen 127.0.0.1:$origin->{port}{plain}; root $dir/html; }
}
CONF
    return $origin;
}

sub configuration {
    my ($case, $server, $origin, $clock_parameters) = @_;
    my ($clock, $prefix, $port) = @$server{qw(clock prefix port)};
    my ($load, $zones, $variable, $locations, $limit) = ('', '', '', '', '');
    my @zones = qw($server_name $host $uri $request_method $scheme $server_protocol $remote_addr $status);
    my %counted = map { $_ => '' } 3, 8, 'keys';
    if (defined $clock) { $load = "load_module $server->{module};" }
    if ($clock) {
        $zones = "request_cpu_clock $clock" . ($clock_parameters // '') . ";\n    request_cpu zone=domains;\n"
            . "    request_cpu_zone \$server_name zone=domains:8m; request_cpu_zone \$arg_k zone=keys:16m;\n"
            . join '', map { "    request_cpu_zone $zones[$_] zone=zone-$_:1m;\n" } 0 .. $#zones;
        if ($server->{name} eq 'logged') {
            $zones .= "    request_cpu_log $prefix/traffic-$_.log zone=$_ interval=1s;\n" for qw(domains keys);
        }
        $variable = ' $request_cpu_time';
        $locations = 'location = /cpu { request_cpu_status; request_cpu off; access_log off; }';
        $counted{$_} = 'request_cpu' . join('', map { " zone=zone-$_" } 0 .. $_ - 1) . ';' for 3, 8;
        $counted{keys} = 'request_cpu zone=keys;';
        # a limit anywhere adds a phase to all requests
        $limit = 'request_cpu_limit zone=domains cores=1000;' if $case->{name} eq 'limit';
    }
    my @listen = (
        ["listen 127.0.0.1:$port->{plain}; listen 127.0.0.1:$port->{ecdsa} ssl;", 'ecdsa'],
        ["listen 127.0.0.1:$port->{rsa} ssl;", 'rsa'],
        ["listen 127.0.0.1:$port->{h2} ssl; http2 on;", 'ecdsa'],
    );
    my $http = join '', map { <<"CONF" } @listen;
    server {
        server_name bench; $_->[0]
        ssl_certificate $dir/$_->[1].crt; ssl_certificate_key $dir/$_->[1].key;
        location /proxy/ { proxy_pass http://origin/; }
        location /pass/ { proxy_pass http://origin/; proxy_max_temp_file_size 0; }
        location /cache/ { proxy_pass http://origin/; proxy_cache cache; proxy_cache_valid 200 1h; }
        location /gzip/ { gzip on; gzip_comp_level 4; gzip_types text/plain; }
        location /log/ { access_log $prefix/cpu.log cpu buffer=64k; }
        location /zones-3/ { $counted{3} }
        location /zones-8/ { $counted{8} }
        location /limit/ { $limit }
        location /keys/ { $counted{keys} }
        $locations
    }
CONF
    return <<"CONF";
$load
worker_cpu_affinity ${\ mask($processors[0])};
events { worker_connections 2048; }
http {
    $zones $server->{directives}
    log_format line '\$remote_addr \$request \$status \$bytes_sent \$request_time';
    log_format cpu '\$remote_addr \$request \$status \$bytes_sent \$request_time$variable';
    access_log $prefix/access.log line buffer=64k;
    default_type text/plain; root $dir/html; open_file_cache max=100; sendfile on;
    keepalive_requests 1000000000;
    ssl_session_tickets off; ssl_session_cache off;
    proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_cache_path $prefix/cache keys_zone=cache:1m;
    upstream origin { server 127.0.0.1:$origin->{port}{plain}; keepalive 64; keepalive_requests 1000000000; }
    ${\ temp_paths($prefix) }
$http}
CONF
}

# Runs NGINX, and waits for its worker.
sub launch {
    my ($server, $conf) = @_;
    my ($name, $prefix) = @$server{qw(name prefix)};
    nginx($server, "$conf\nworker_processes 1; daemon on;") == 0
        or die "bench: $name did not start:\n", lines("$prefix/error.log");
    for (1 .. 500) {
        if (-s "$prefix/pid") {
            chomp(($server->{pid}) = lines("$prefix/pid"));
            push @running, $server->{pid} unless grep { $_ == $server->{pid} } @running;
            ($server->{worker}) = split ' ', join '', lines("/proc/$server->{pid}/task/$server->{pid}/children");
            return urgent($server->{worker}) if $server->{worker};
        }
        sleep 0.01;
    }
    die "bench: $name has no worker\n";
}

sub nginx {
    my ($server, $conf, @arguments) = @_;
    my $prefix = $server->{prefix};
    mkdir $prefix;
    my $user = $> == 0 ? 'user root;' : '';
    spew("$prefix/nginx.conf", "$conf $user pid $prefix/pid; error_log $prefix/error.log;\n");
    # what it has to say is in the log as well
    return system("'$nginx' @arguments -q -p '$prefix' -e '$prefix/error.log' -c '$prefix/nginx.conf' 2>/dev/null");
}

sub mask { return '1' . '0' x $_[0] }

sub version { my ($v) = `'$nginx' -v 2>&1` =~ m{nginx/(\S+)}; return $v // '?' }

1;
