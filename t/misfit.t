# A module that does not fit: NGINX refuses it with the messages of docs/src/install.md. The running server goes on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Test::RequestCpu;

my $t = Test::RequestCpu->new;
my ($major, $minor, $patch) = $t->version =~ /^(\d+)\.(\d+)\.(\d+)/ or plan(skip_all => 'the version is not known');
my $number = 1_000_000 * $major + 1000 * $minor + $patch;
my $module = $t->slurp($t->{module});
my $path = $t->dir . '/misfit.so';

# Writes a copy of the module in which one text is another one of the same length.
sub changed {
    my ($from, $to) = @_;
    my $copy = $module;
    my $found = ($copy =~ s/\Q$from\E/$to/g) || 0;
    $t->write_file($path, $copy);
    return $found
}

# NGINX compares the descriptor's version, then its signature (ngx_add_module).
my ($signature) = $module =~ /\b([48],[48],[48],[01]{34,})/;
ok($signature, 'the module has a signature') or BAIL_OUT('no signature');
(my $other = $signature) =~ s/^(.*)(.)$/$1 . ($2 ^ "\x01")/e;
for my $case (
    [ 'a module for another version', pack('Q<', $number), pack('Q<', 1_004_002),
        qr/module "\Q$path\E" version 1004002 instead of $number/ ],
    [ 'a module for other configure arguments', $signature, $other, qr/module "\Q$path\E" is not binary compatible/ ],
) {
    my ($name, $from, $to, $message) = @$case;
    ok(changed($from, $to), "$name is made");
    my ($status, $output) = $t->try_config(raw => "load_module $path;\nevents { }\nhttp { }\n");
    is($status, 1, "$name: nginx -t fails");
    like($output, $message, "$name: with the message of the documentation");

    $t->start(http => 'server { listen 127.0.0.1:{{port:http}}; location / { return 200 ok; } }');
    my $running = { %{ $t->{part} } };
    $t->_write_config(raw => "load_module $path;\nevents { }\nhttp { }\n");
    kill HUP => $t->master;
    ok(wait_until(60, sub { $t->error_log =~ $message }), "$name: a reload is refused");
    is($t->get('/')->{status}, 200, "$name: the server goes on");
    $t->expect_log(qr/\[emerg\].*(?:instead of|is not binary compatible)/);
    $t->_write_config(%$running);
    is($t->stop, 0, "$name: and ends by itself");
}

done_testing();
