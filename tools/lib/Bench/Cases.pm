# The cases of scripts/bench: what is asked for, and by how many connections.
package Bench::Cases;

use strict;
use warnings;
use Exporter qw(import);

our @EXPORT_OK = qw(@cases %case);

# What is asked for, and by how many connections. "turn": so many times longer, and so many times fewer, where opening
# the connections, which each turn begins with, or a single request would else be much of it. "tls" is the
# certificate's kind.
our @cases = (
    { name => 'static-1', about => '1 KB, keepalive, 1 connection', connections => 1 },
    { name => 'static', about => '1 KB, keepalive, 32 connections' },
    { name => 'static-256', about => '1 KB, keepalive, 256 connections', connections => 256, turn => 3 },
    { name => '100k', about => '100 KB, keepalive', path => '/100k' },
    { name => '10m', about => '10 MB, keepalive, 4 connections', path => '/10m', connections => 4, turn => 2 },
    { name => 'tls', about => '1 KB over TLS, keepalive', tls => 'ecdsa', connections => 8, turn => 2 },
    { name => 'handshake-rsa', about => '1 KB, TLS handshake each, RSA 2048',
        tls => 'rsa', connections => 8, close => 1 },
    { name => 'handshake-ecdsa', about => '1 KB, TLS handshake each, P-256',
        tls => 'ecdsa', connections => 8, close => 1 },
    { name => 'http2', about => '1 KB, HTTP/2, TLS, 4 x 16 streams',
        tls => 'h2', connections => 4, streams => 16, turn => 2 },
    { name => 'proxy', about => '1 KB, upstream with keepalive', path => '/proxy/1k' },
    { name => 'cache', about => '1 KB, proxy_cache hit', path => '/cache/1k' },
    { name => 'gzip', about => '100 KB of text, gzip level 4',
        path => '/gzip/text', connections => 8, gzip => 1, turn => 2 },
    { name => 'log', about => '1 KB, $request_cpu_time in the log', path => '/log/1k' },
    { name => 'zones-3', about => '1 KB, counted in 3 zones', path => '/zones-3/1k' },
    { name => 'zones-8', about => '1 KB, counted in 8 zones', path => '/zones-8/1k' },
    { name => 'limit', about => '1 KB, with a limit that lets all in', path => '/limit/1k' },
    { name => 'keys', about => '1 KB, 10,000 keys, by lot', path => '/keys/1k', keys => 10_000 },
);
our %case = map { $_->{name} => { path => '/1k', connections => 32, turn => 1, %$_ } } @cases;
@cases = @case{ map { $_->{name} } @cases };

1;
