# NGINX loads each configuration of the documentation: blocks marked as nginx in README.md and docs/src, and the files
# of nginx-conf. The test adds what a block refers to. A block that cannot be loaded is reported with file and line.
#
#   ```nginx                     the context is found: a whole file, http, server or location
#   ```nginx,context=server      the context is given
#   ```nginx,needs=http_v3       only with an NGINX that has this module, or this version: needs=1.25.1
#   ```nginx,fails=unknown_zone  NGINX must refuse it with these words
#   ```nginx,skip=lua            not loaded, for this reason
use strict;
use warnings;
use File::Find qw(find);
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Fragment qw(blocks load);

my $root = "$FindBin::Bin/..";
my @pages = 'README.md';
my $add = sub { push @pages, substr $_, 1 + length $root if /\.md$/ };
find({ no_chdir => 1, wanted => $add }, "$root/docs/src") if -d "$root/docs/src";

# tests of the rules above, each with a block that breaks or uses the rule
my %own = (
    'a whole file' => [ <<'CONF' ],
load_module modules/ngx_http_request_cpu_module.so;
http {
    request_cpu_zone $host zone=a:1m;
    server { listen 10.1.2.3:443 ssl; }
}
CONF
    'lines of http' => [ <<'CONF' ],
request_cpu zone=domains;
server { server_name a; listen 80; location / { proxy_pass http://app.internal:8080; } }
CONF
    'lines of a server' => [ <<'CONF' ],
location = /cpu { request_cpu_status; request_cpu off; }
listen unix:{{dir}}/own.sock;
CONF
    'lines of a location' => [ <<'CONF' ],
internal;
limit_req zone=slow;
limit_conn many 2;
proxy_cache kept;
add_header X-Tenant $tenant;
CONF
    'a log' => [ <<'CONF' ],
access_log /var/log/nginx/access.log cpu;
request_cpu_log /var/log/nginx/traffic.log zone=domains;
CONF
    'files that are included' => [ <<'CONF' ],
http {
    include mime.types;
    include request_cpu.conf;
}
CONF
    'an unknown directive' => [ "request_cpu zone=domains;\n\nrequest_cpu_colour red;\n",
        qr/^own:12: unknown directive "request_cpu_colour"/ ],
    'two contexts' => [ "request_cpu_zone \$host zone=a:1m;\nlocation / { }\n",
        qr/^own:11: "location" directive is not allowed here/ ],
    'a wrong value' => [ "request_cpu_zone \$host zone=a:8x;\n", qr/^own:10: .*8x/ ],
    'what must fail' => [ "request_cpu_zone \$host zone=a:8x;\n", undef, fails => 'request_cpu_zone' ],
    'what must fail and does not' => [ "request_cpu_zone \$host zone=a:1m;\n",
        qr/^own:10: NGINX loads it/, fails => 'zone' ],
    'an unknown attribute' => [ "request_cpu off;\n", qr/^own:10: unknown attribute "kontext"/, kontext => 'http' ],
    'a context that is wrong' => [ "request_cpu_zone \$host zone=a:1m;\n",
        qr/^own:10: "request_cpu_zone" directive is not allowed here/, context => 'server' ],
);

my $t = Test::RequestCpu->new->need('http_ssl');
for my $name (sort keys %own) {
    my ($text, $fault, %attribute) = @{ $own{$name} };
    my $told = load($t, { file => 'own', line => 10, text => $text, %attribute }, $root);
    if ($fault) { like($told, $fault, "a block of the test's own, with a fault: $name") }
    else { is($told, undef, "a block of the test's own: $name") }
}

my @blocks = map { blocks($root, $_) } sort @pages;
for my $path (sort glob "$root/nginx-conf/{,image/,compose/}*.conf") {
    # the demonstration uses sub_filter
    my @needs = $path =~ /demo\.conf$/ ? (needs => 'http_sub') : ();
    push @blocks, { file => substr($path, 1 + length $root), line => 1, text => $t->slurp($path), @needs };
}
for my $block (@blocks) {
    my $place = "$block->{file}:$block->{line}";
    my $needs = $block->{needs};
    SKIP: {
        skip("$place: $block->{skip}", 1) if defined $block->{skip};
        skip("$place: nginx/" . $t->version . " here has no $needs", 1)
            if defined $needs && !($needs =~ /^\d+\.[\d.]+$/ ? $t->at_least($needs) : $t->has($needs));
        my $told = load($t, $block, $root);
        is($told, undef, "$place is loaded");
    }
}
$t->done;
