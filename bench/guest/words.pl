# Counts, sorts and matches words, as scripts do. words.pl PERCENT
my ($state, %count, %text) = 1;
for (1 .. $ARGV[0] * 2500) {
    $state = ($state * 1103515245 + 12345) & 0x7fffffff;
    my $word = 'w' . ($state >> 8) % 5000;
    $count{$word}++;
    $text{$word} .= chr(97 + $_ % 26);
}
my $sum = 0;
for my $word (sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count) {
    $sum += $count{$word} * length $1 while $text{$word} =~ /([a-e]+)[x-z]/g;
    $sum += ($text{$word} =~ tr/a-m//);
}
print "$sum\n";
