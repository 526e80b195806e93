# Reads one Rust file: its modules, its imports, and the names that it defines.
package Imports::Source;

use strict;
use warnings;

my @items = qw(fn struct enum trait const static type union macro_rules);
my %item = map { $_ => 1 } @items;

# parse(\%modules, $path, $text, @module) adds the module @module, and the modules inside of the file, to %modules:
#   file      the path
#   defines   names of items
#   children  names of modules in files of their own or in braces
#   renames   names that `use` brings in, each with its path
#   globs     paths of `use path::*`
#   imports   [line, text, path…] for each path that the code names
sub parse {
    my ($modules, $path, $text, @module) = @_;
    my $self = bless { modules => $modules, path => $path, tokens => tokens($text), at => 0 }, __PACKAGE__;
    $self->module(@module);
    return;
}

# Splits the text into words, "::" and single characters, each with its line. Comments, strings and lifetimes are left
# out.
sub tokens {
    my ($text) = @_;
    my @tokens;
    my $line = 1;
    for ($text) {
        while (1) {
            my $from = pos // 0;
            my $token;
            if (/\G\s+/gc || m{\G//[^\n]*}gc) { }
            elsif (m{\G/\*}gc) {
                my $depth = 1;
                while ($depth && m{\G.*?(/\*|\*/)}gcs) { $depth += $1 eq '/*' ? 1 : -1 }
            }
            elsif (/\G(?:b|c)?r(#*)".*?"\1/gcs || /\Gb?'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'])'/gcs) { $token = '""' }
            elsif (/\G[bc]?"(?:[^"\\]|\\.)*"/gcs) { $token = '""' }
            elsif (/\G'\w+/gc) { }
            elsif (/\G(?:r#)?(\w+)/gc) { $token = $1 }
            elsif (/\G(::|.)/gcs) { $token = $1 }
            else { last }
            push @tokens, [ $token, $line ] if defined $token;
            $line += substr($text, $from, pos() - $from) =~ tr/\n//;
        }
    }
    return \@tokens;
}

sub peek {
    my ($self, $ahead) = @_;
    my $token = $self->{tokens}[ $self->{at} + ($ahead // 0) ];
    return $token ? $token->[0] : '';
}

sub line { my ($self) = @_; my $token = $self->{tokens}[ $self->{at} ] // $self->{tokens}[-1]; return $token->[1] }
sub next_token { my ($self) = @_; my $token = $self->peek; $self->{at}++; return $token }
sub more { my ($self) = @_; return $self->{at} < @{ $self->{tokens} } }

# Reads a module up to its closing brace, or to the end of the file.
sub module {
    my ($self, @module) = @_;
    my $name = join '::', @module;
    my $module = $self->{modules}{$name} = {
        name => [@module], file => $self->{path},
        defines => {}, children => {}, renames => {}, globs => [], imports => [],
    };
    my ($depth, $before) = (0, '');
    while ($self->more) {
        my $token = $self->peek;
        if ($token eq '#' && ($self->peek(1) eq '[' || $self->peek(1) eq '!' && $self->peek(2) eq '[')) {
            $self->skip_item if $self->attribute =~ /^cfg\b(?!.*\bnot \( test\b).*\btest\b/;
        }
        elsif ($token eq 'mod' && $self->peek(1) =~ /^\w+$/ && $self->peek(2) =~ /^[;{]$/) {
            my $child = $self->peek(1);
            my $inside = $self->peek(2) eq '{';
            $self->{at} += 3;
            $module->{children}{$child} = $inside ? 'inside' : 'file';
            $self->module(@module, $child) if $inside;
        }
        elsif ($token eq 'use' && $self->peek(1) ne '<') {
            my $line = $self->line;
            $self->{at}++;
            $self->use_tree($module, $line);
        }
        elsif ($token eq '{') { $depth++; $self->{at}++ }
        elsif ($token eq '}') {
            $self->{at}++;
            last if $depth-- == 0;
        }
        elsif ($item{$token} && $self->peek(1) =~ /^(?:mut|!|\w+)$/) {
            $self->{at}++;
            $self->{at}++ while $self->peek =~ /^(?:mut|!|unsafe|extern|fn)$/;
            $module->{defines}{ $self->next_token } = 1 if $depth == 0 && $self->peek =~ /^\w+$/;
        }
        elsif ($token =~ /^[A-Za-z_]\w*$/ && $self->peek(1) eq '::' && $before ne '::') { $self->path_in_code($module) }
        else { $self->{at}++ }
        $before = $self->{at} ? $self->{tokens}[ $self->{at} - 1 ][0] : '';
    }
    return;
}

# The words of an attribute.
sub attribute {
    my ($self) = @_;
    $self->{at} += $self->peek(1) eq '!' ? 3 : 2;
    my ($depth, @words) = (1);
    while ($self->more) {
        my $token = $self->next_token;
        $depth += $token eq '[' ? 1 : $token eq ']' ? -1 : 0;
        last unless $depth;
        push @words, $token;
    }
    return "@words";
}

# Skips the item after an attribute: up to its semicolon or its closing brace. A field, a variant or an argument ends
# at its comma.
sub skip_item {
    my ($self) = @_;
    my $depth = 0;
    my $is_item = $self->peek =~ /^(?:#|pub|use|mod|fn|impl|unsafe|extern|async|let|@{[ join '|', @items ]})$/;
    while ($self->more) {
        my $token = $self->peek;
        return if $depth == 0 && $token =~ /^[)}\]]$/;
        $self->{at}++;
        $depth++ if $token =~ /^[({[]$/;
        $depth-- if $token =~ /^[)}\]]$/;
        return if $depth == 0 && ($token =~ /^[;}]$/ && $self->peek ne ';' || $token eq ',' && !$is_item);
    }
    return;
}

# Reads a path in code. Only the leading words matter; braces as in a use tree do not occur.
sub path_in_code {
    my ($self, $module) = @_;
    my $line = $self->line;
    my @path = ($self->next_token);
    while ($self->peek eq '::' && $self->peek(1) =~ /^\w+$/) {
        $self->{at}++;
        push @path, $self->next_token;
    }
    push @{ $module->{imports} }, [ $line, join('::', @path), 'code', @path ];
    return;
}

# use a::{b, c::{self, d as e}, f::*};
sub use_tree {
    my ($self, $module, $line, @prefix) = @_;
    my $own = !@prefix;
    my @path = @prefix;
    $self->{at}++ if $self->peek eq '::';
    while ($self->more) {
        my $token = $self->peek;
        $line = $self->line if $token =~ /^\w+$/;
        if ($token eq '{') {
            $self->{at}++;
            while ($self->more && $self->peek ne '}') {
                $self->use_tree($module, $line, @path ? @path : '');
                $self->{at}++ if $self->peek eq ',';
            }
            $self->{at}++;
            last;
        }
        $self->{at}++;
        if ($token eq '*') {
            push @{ $module->{globs} }, [ grep { length } @path ];
            $self->imported($module, $line, @path, '*');
            last;
        }
        push @path, $token;
        next if $self->peek eq '::' && ++$self->{at};
        my $name = $path[-1] eq 'self' ? $path[-2] // 'self' : $path[-1];
        if ($self->peek eq 'as') { $name = $self->peek(1); $self->{at} += 2 }
        pop @path if @path > 1 && $path[-1] eq 'self';
        $module->{renames}{$name} = [ grep { length } @path ];
        $self->imported($module, $line, @path);
        last;
    }
    $self->{at}++ if $own && $self->peek eq ';';
    return;
}

sub imported {
    my (undef, $module, $line, @path) = @_;
    @path = grep { length } @path;
    push @{ $module->{imports} }, [ $line, 'use ' . join('::', @path), 'use', grep { $_ ne '*' } @path ];
    return;
}

1;
