# A key may be known only when the request is over. A waiting request is shown in flight before that, so its key is
# evaluated early too. The early evaluation must change neither the request nor the account in which it is counted.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;
use Time::HiRes qw(sleep);

for my $module (0, 1) {
    my $name = $module ? 'with the module' : 'without the module';
    my $t = Test::RequestCpu->new(module => $module)->need('auth_request', 'limit_req');
    my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
        my ($connection, $request) = @_;
        sleep 0.2 unless $request->{uri} =~ /quick/;
        return $connection->answer("[$request->{uri}]",
            headers => { 'X-Tenant' => 'tenant-' . ($request->{uri} =~ /(\d+)/ ? $1 : 'none') });
    });
    my $cpu = $module ? <<'EOC' : '';
    request_cpu_zone $upstream_http_x_tenant zone=upstream:1m;
    request_cpu_zone $mapped zone=mapped:1m;
    request_cpu_zone $tenant zone=auth:1m;
    request_cpu_zone $by_host zone=regex:1m;
    request_cpu_zone $status zone=status:1m;
    request_cpu_zone $request_id zone=id:1m;
    request_cpu zone=upstream zone=mapped zone=auth zone=regex zone=status zone=id;
EOC
    $t->start(http => <<"EOC");
    map \$upstream_http_x_tenant \$mapped { ~^tenant-(.*)\$ "mapped-\$1"; default unknown; }
    map \$host \$by_host { ~^(\\w+)\\.([a-z]+)\$ "\$2.\$1"; default other; }
    limit_req_zone \$server_name zone=slow:1m rate=5r/s;
    $cpu
    log_format late '\$request_id \$sent_http_x_request \$mapped \$tenant \$upstream_http_x_tenant';
    server {
        listen 127.0.0.1:{{port:http}};
        server_name late.test;
        set \$tenant "";
        add_header X-Request \$request_id;
        add_header X-Mapped \$mapped;
        access_log {{dir}}/access.log facts;
        access_log {{dir}}/late.log late;
        location ~ ^/proxy/(\\d+)/(.*)\$ {
            proxy_pass http://127.0.0.1:{{port:upstream}}/got/\$1/\$2;
        }
        location ~ ^/auth/(\\d+)/(.*)\$ {
            set \$number \$1;
            auth_request /check;
            auth_request_set \$tenant \$upstream_http_x_tenant;
            proxy_pass http://127.0.0.1:{{port:upstream}}/quick/\$1/\$2;
        }
        location = /check { internal; proxy_pass http://127.0.0.1:{{port:upstream}}/check/\$number;
            proxy_pass_request_body off; }
        location ~ ^/delayed/(\\d+)/(.*)\$ {
            limit_req zone=slow burst=20;
            proxy_pass http://127.0.0.1:{{port:upstream}}/quick/\$1/\$2;
        }
    }
EOC

    # A request sees the same values: above all the captures of its location, which NGINX keeps in one place for all
    # patterns
    my @seen;
    push @seen, [ 'a slow upstream', $t->get('/proxy/1/a', host => 'one.test') ];
    push @seen, [ 'a slow permission', $t->get('/auth/2/b', host => 'one.test') ];
    my @delayed = map { my $c = $t->connect('http'); $c->request("/delayed/$_/d", host => 'one.test', close => 1);
        $c } 3 .. 5;
    push @seen, map { [ 'a delay', $_->response ] } @delayed;
    is($seen[0][1]{body}, '[/got/1/a]', "$name: $seen[0][0]: captures of the location are its own");
    is($seen[1][1]{body}, '[/quick/2/b]', "$name: $seen[1][0]: captures of the location are its own");
    is($seen[$_][1]{body}, "[/quick/@{[ $_ + 1 ]}/d]", "$name: $seen[$_][0]: captures of the location are its own")
        for 2 .. 4;
    is($seen[0][1]{headers}{'x-mapped'}, 'mapped-1', "$name: a map of what the upstream says is right");
    my @lines = $t->logged(5);
    wait_until(60, sub { $t->slurp($t->dir . '/late.log') =~ tr/\n// >= 5 });
    my @late = map { [ split ' ' ] } split /\n/, $t->slurp($t->dir . '/late.log');
    is(scalar(grep { $_->[0] eq $_->[1] } @late), 5, "$name: a request has one id, in its answer and in the log");
    is($late[0][2], 'mapped-1', "$name: the log has the map's value");
    is($late[1][3], 'tenant-2', "$name: and that of the permission");

    if ($module) {
        $t->account_with('status', 200, 5);
        my $zones = $t->status->{zones};
        my $count = sub { my ($zone) = @_;
            return { map { $_ => $zones->{$zone}{keys}{$_}{requests} }
                grep { $zones->{$zone}{keys}{$_}{requests} } keys %{ $zones->{$zone}{keys} } } };
        is_deeply($count->('upstream'), { map { ("tenant-$_" => 1) } 1 .. 5 }, 'a key that the upstream says');
        is_deeply($count->('mapped'), { map { ("mapped-$_" => 1) } 1 .. 5 }, 'a map of it');
        is_deeply($count->('auth'), { 'tenant-2' => 1 }, 'a key that the permission says');
        is_deeply($count->('regex'), { 'test.one' => 5 }, 'a key by a pattern of its own');
        is_deeply($count->('status'), { 200 => 5 }, 'the status of the answer');
        is_deeply($count->('id'), { map { ($_->[0] => 1) } @late }, 'the id of the request');
        for my $zone (sort keys %$zones) {
            is(sum(map { $_->{in_flight} } values %{ $zones->{$zone}{keys} }), 0, "$zone: nothing is in flight");
        }
    }
    $t->done(more => 1);
}

done_testing();
