// kvserve: parse, load, listen, drain. The process's table of contents.
int main() { return 0; }
