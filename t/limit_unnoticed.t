# A limit evaluates its key and the value of its cores before the request is served. The request does not change:
# captures and variables have the same values as before. A key that is known only later is counted under its late
# value.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;
use Test::RequestCpu::Upstream;

my $t = Test::RequestCpu->new->need('map', 'rewrite');
$t->html('a.txt', 'plain');
$t->html('burn.txt', 'burnt');
my $upstream = Test::RequestCpu::Upstream->start($t, 'upstream', sub {
    my ($connection, $request) = @_;
    return $connection->answer("[$request->{uri}]", headers => { 'X-Tenant' => 't1' });
});
my $burn = burn_rules(2);
my @limits = (
    [ 'pattern', 'request_cpu_limit zone=by_host cores=100;' ],
    [ 'dry', 'request_cpu_limit zone=by_host cores=100 dry_run;' ],
    [ 'cores', 'request_cpu_limit zone=constant cores=$cores;' ],
    [ 'invalid', 'request_cpu_limit zone=constant cores=$invalid;' ],
    [ 'both', 'request_cpu_limit zone=by_host cores=$cores; request_cpu_limit zone=constant cores=100;' ],
    # the key is in debt: requests that would be refused are logged with their key
    [ 'logged', 'request_cpu_limit zone=debtor cores=0.001 burst=0 dry_run;' ],
);
my $locations = join '', map { my ($name, $limit) = @$_; <<"EOC" } @limits;
        location ~ ^/$name/(\\d+)/(.*)\$ {
            $limit
            set \$before \$request_id;
            add_header X-Captures "\$1 \$2";
            add_header X-Tenant-Seen "\$tenant \$named";
            add_header X-Id "\$request_id \$before";
            proxy_pass http://127.0.0.1:{{port:upstream}}/got/\$1/\$2;
        }
EOC
$t->start(http => <<"EOC");
    map \$host \$by_host { ~^(\\w+)\\.([a-z]+)\$ "\$2.\$1"; default other; }
    map \$host \$debtor { ~^(\\w+)\\.[a-z]+\$ "debtor"; default other; }
    map \$uri \$cores { ~^/(both|cores)(/) 100; default ""; }
    map \$uri \$invalid { ~^/(invalid)(/) "\$2"; default ""; }
    map \$upstream_http_x_tenant \$tenant { ~^(.+)\$ \$1; default ""; }
    map \$upstream_http_x_tenant \$named { t1 T1; default none; }
    request_cpu_zone \$by_host zone=by_host:1m;
    request_cpu_zone \$debtor zone=debtor:1m;
    request_cpu_zone \$server_name zone=constant:1m;
    request_cpu_zone \$tenant zone=tenant:1m;
    request_cpu_zone \$named zone=named:1m;
    request_cpu_zone \$request_id zone=id:1m;
    request_cpu zone=by_host zone=debtor zone=constant zone=tenant zone=named zone=id;
    request_cpu_limit_log_level notice;
    log_format ids '\$uri \$request_id';
    server {
        listen 127.0.0.1:{{port:http}};
        server_name late.test;
        access_log {{dir}}/ids.log ids;
$locations
        location /tenant { request_cpu_limit zone=tenant cores=100; add_header X-Seen "[\$tenant]";
            proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location /named { request_cpu_limit zone=named cores=100; add_header X-Seen "[\$named]";
            proxy_pass http://127.0.0.1:{{port:upstream}}; }
        location /id { request_cpu_limit zone=id cores=100; add_header X-Id "\$request_id"; try_files /a.txt =404; }
        location / { $burn }
    }
EOC

my $x = burn_text();
is($t->get("/burn.txt?x=$x", host => 'one.test')->{status}, 200, 'an expensive request');
ok(wait_until(60, sub { $t->get('/logged/7/x', host => 'one.test');
    $t->error_log =~ /dry run, debt: .*zone "debtor", key "debtor"/ }), 'its key is in debt');

for (map { $_->[0] } @limits) {
    my $answer = $t->get("/$_/7/x", host => 'one.test');
    is($answer->{body}, '[/got/7/x]', "$_: captures of the location are its own");
    is($answer->{headers}{'x-captures'}, '7 x', "$_: also when the answer is sent");
    is($answer->{headers}{'x-tenant-seen'}, 't1 T1', "$_: a map of what the upstream says is right");
    my ($one, $other) = split ' ', $answer->{headers}{'x-id'};
    is($one, $other, "$_: a variable that was there before is the same");
}
like($t->error_log, qr/invalid cores "\/" in "request_cpu_limit"/, 'a bad value of cores is logged');

is($t->get('/tenant', host => 'one.test')->{headers}{'x-seen'}, '[t1]',
    'a key that is known later is empty for its limit, not for the request');
is($t->get('/named', host => 'one.test')->{headers}{'x-seen'}, '[T1]',
    'a key with a value of its own before that is right too');
my $id = $t->get('/id', host => 'one.test')->{headers}{'x-id'};
wait_until(60, sub { $t->slurp($t->dir . '/ids.log') =~ m{^/a\.txt \Q$id\E$}m });
like($t->slurp($t->dir . '/ids.log'), qr{^/a\.txt \Q$id\E$}m, 'a request has one id, in its answer and in the log');

my $count = @limits + 2;
ok(wait_until(60, sub { ($t->status->{zones}{tenant}{keys}{t1}{requests} // 0) >= $count }),
    'requests are counted under the late key');
my $zones = $t->status->{zones};
is($zones->{named}{keys}{T1}{requests}, $zones->{tenant}{keys}{t1}{requests}, 'by a map with a default too');
is($zones->{id}{keys}{$id}{requests}, 1, 'a key that is new for each request is that of the request');
is($zones->{constant}{keys}{'late.test'}{limit}{cores}, 100, 'the limit of a value by a pattern applies');

$t->done;
