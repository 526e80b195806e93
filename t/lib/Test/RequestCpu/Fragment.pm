package Test::RequestCpu::Fragment;

# A configuration in the documentation. Completes it, so that the NGINX under test can load it.

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(basename dirname);
use File::Path qw(make_path);
use Test::RequestCpu::Port qw(free_port);

our @EXPORT_OK = qw(blocks load);

# The blocks of a Markdown file that are marked as nginx: { file, line of the first line, text, attribute => value }.
sub blocks {
    my ($root, $file) = @_;
    open my $in, '<', "$root/$file" or die "$file: $!\n";
    my ($block, $fence, @blocks);
    while (my $line = <$in>) {
        if (defined $fence) {
            if ($line =~ /^\s*\Q$fence\E`*\s*$/) { push @blocks, $block if $block; ($fence, $block) = () }
            elsif ($block) { $block->{text} .= $line }
        }
        elsif ($line =~ /^\s*(```+)\s*(\S*)/) {
            $fence = $1;
            my ($kind, @attributes) = split /,/, $2;
            my %attribute = map { /^(\w+)=(.*)$/ ? ($1 => $2) : ($_ => 1) } @attributes;
            $block = { file => $file, line => $. + 1, text => '', %attribute } if ($kind // '') eq 'nginx';
        }
    }
    die "$file: the last block has no end\n" if defined $fence;
    return @blocks;
}

# load($server, $block, $root): returns nothing if NGINX loads the block, and otherwise the fault with file and line.
# A block that must fail passes if it fails with its words.
sub load {
    my ($t, $block, $root) = @_;
    my @unknown = grep { !/^(?:file|line|text|context|fails|needs|skip)$/ } sort keys %$block;
    return "$block->{file}:$block->{line}: unknown attribute \"$unknown[0]\"" if @unknown;
    my @contexts = defined $block->{context} ? $block->{context} : qw(main http server location);
    my $fault;
    for my $context (@contexts) {
        my $new = in_context($t, $block, $root, $context);
        if (!$new) { $fault = undef; last }
        $new->{context} = $context;
        my $is_misplaced = $new->{said} =~ /directive is not allowed here/;
        # in a wrong context, NGINX reports an earlier line than in the right one: the first directive that is not
        # allowed
        $fault = $new if !$fault || !$is_misplaced || $new->{line} > $fault->{line};
        last if !$is_misplaced;
    }
    if (defined $block->{fails}) {
        return "$block->{file}:$block->{line}: NGINX loads it" if !$fault;
        my ($wanted, $said) = map { tr/_/ /r } $block->{fails}, $fault->{said};
        return if index($said, $wanted) >= 0;
    }
    return $fault && "$block->{file}:$fault->{line}: $fault->{said} (in context $fault->{context})";
}

my $server = 'server { listen 127.0.0.1:{{port:own}}; server_name own.test;';
my %around = (
    main => [ '', '' ],
    http => [ "http {\n", "}\n" ],
    server => [ "http {\n", "$server\n", "}\n}\n" ],
    location => [ "http {\n", "$server location / {\n", "}\n}\n}\n" ],
);

# The fault of the block in a context: { line, said }, or nothing.
sub in_context {
    my ($t, $block, $root, $context) = @_;
    my $around = $around{$context} or return { line => $block->{line}, said => "unknown context \"$context\"" };
    my ($before, @rest) = @$around;
    my $after = pop @rest;
    my $text = moved($t, $block->{text});
    my $is_whole = $context eq 'main';
    # use the module of the test, and root, which may write in the folder of the test
    $text =~ s/^(\s*)(?:load_module\s+\S*ngx_http_request_cpu_module|user\s)[^;]*;/$1/mg;
    my $main = 'load_module {{module}};' . ($> == 0 ? ' user root;' : '');
    $main .= " events { }" unless $is_whole && $text =~ /\bevents\s*\{/;
    my @more = 'access_log off;';
    for my $name (qw(client_body proxy fastcgi uwsgi scgi)) {
        next if $text =~ /\b${name}_temp_path\b/ || $t->{about} =~ /--without-http_${name}_module/;
        push @more, "${name}_temp_path {{dir}}/temp/$name;";
    }
    my %done;
    for (1 .. 60) {
        my $inside = join ' ', @more;
        my $whole;
        if ($is_whole) { ($whole = "$main\n# the block\n$text") =~ s/^(\s*http\s*\{)/$1 $inside/m }
        else { $whole = "$main\n$before$inside\n@rest# the block\n$text\n$after" }
        unlink $t->dir . '/error.log';
        my ($status, $output) = $t->try_config(raw => $whole);
        return if $status == 0;
        my ($said, $line) = $output =~ m{\[emerg\]\s+(?:\d+\#\d+:\s+)?(.*?)(?:\s+in\s+\S+?/nginx\.conf:(\d+))?$}m
            or return { line => $block->{line}, said => $output };
        next if !$done{$said}++ && completed($t, $said, \$text, \@more, $root);
        my ($head) = $t->slurp($t->dir . '/nginx.conf') =~ /^(.*?^\# the block\n)/ms;
        my $at = ($line // 0) - ($head =~ tr/\n//) - 1;
        $at = 0 if $at < 0;
        return { line => $block->{line} + $at, said => $said };
    }
    return { line => $block->{line}, said => 'it cannot be completed' };
}

# Replaces files and ports by those of the test.
sub moved {
    my ($t, $text) = @_;
    my $dir = $t->dir;
    my $known = qr{/(?:var|run|etc|usr|srv|opt|home|tmp|data|mnt|cache)/};
    $text =~ s{(?<=[\s"'=:])$known[^\s;"'{}]*}{ my $path = "$dir/moved$&"; make_path(dirname($path)); $path }ge;
    $text =~ s/\blisten\s+(?!unix:)(\S+?)(?=[\s;])/'listen ' . listen_address($t, $1)/ge;
    # relative paths of logs, caches and state files
    while ($text =~ m{(?:^|[\s=])((?:[\w.-]+/)+)[\w.-]+(?=[\s;])}mg) { make_path("$dir/$1") }
    return $text;
}

sub listen_address {
    my ($t, $address) = @_;
    my ($host, $port) = $address =~ /^(.*):(\d+)$/ ? ($1, $2) : $address =~ /^\d+$/ ? ('', $address) : ($address, 80);
    my $own = $t->port("listen$port");
    return $host eq '' ? $own : $host =~ /^(?:127\.0\.0\.1|\*|\[.*\])$/ ? "$host:$own" : "127.0.0.1:$own";
}

# Adds what NGINX reported as missing. False if nothing can be added.
sub completed {
    my ($t, $said, $text, $more, $root) = @_;
    my $dir = $t->dir;
    if ($said =~ /^unknown zone "([^"]+)" in "request_cpu/) { push @$more, "request_cpu_zone \$host zone=$1:1m;" }
    elsif ($said =~ /^zero size shared memory zone "([^"]+)"/ || $said =~ /^"\w+_cache" zone "([^"]+)" is unknown/) {
        my $zone = $1;
        push @$more,
            $$text =~ /\blimit_req\s+zone=\Q$zone\E\b/ ? "limit_req_zone \$binary_remote_addr zone=$zone:1m rate=10r/s;"
            : $$text =~ /\blimit_conn\s+\Q$zone\E\b/ ? "limit_conn_zone \$binary_remote_addr zone=$zone:1m;"
            : "proxy_cache_path $dir/cache-$zone keys_zone=$zone:1m;";
    }
    elsif ($said =~ /^unknown log format "([^"]+)"/) { push @$more, "log_format $1 '\$request_cpu_time';" }
    elsif ($said =~ /^unknown "(\w+)" variable/) { push @$more, "map \$host \$$1 { default ''; }" }
    elsif ($said =~ /^host not found in (?:upstream|resolver)? ?"([^"]+)"/) {
        my ($host, $port) = ($1, free_port());
        return $$text =~ s/(?<![\w.\-])\Q$host\E(?::\d+)?(?![\w.\-:])/127.0.0.1:$port/g;
    }
    elsif ($said =~ /^no "ssl_certificate" is defined/) {
        push @$more, 'ssl_certificate ' . certificate($t) . ';', "ssl_certificate_key $dir/own.key;";
    }
    elsif ($said =~ /^(?:cannot load certificate (?:key )?|SSL_CTX_load_verify_locations\()"([^"]+)"/) {
        my $path = $1;
        return if $path =~ /^(?:data|engine):/;
        my $pem = certificate($t);
        make_path(dirname($path));
        $t->write_file($path, $t->slurp($said =~ /certificate key/ ? "$dir/own.key" : $pem));
    }
    elsif ($said =~ /^open\(\) "([^"]+)" failed \(2:/) {
        my $path = $1;
        my $ours = "$root/nginx-conf/" . basename($path);
        make_path(dirname($path));
        $t->write_file($path, -e $ours && $path =~ /\.conf$/ ? moved($t, $t->slurp($ours)) : '');
    }
    else { return }
    return 1;
}

sub certificate {
    my ($t) = @_;
    my $pem = $t->dir . '/own.pem';
    $t->certificate(ecdsa => 'own') unless -e $pem;
    return $pem;
}

1;
