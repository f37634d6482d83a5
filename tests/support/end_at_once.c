/* A child that does nothing but end. */
int main(void) { return 0; }
