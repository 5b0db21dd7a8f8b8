@0x98a0d32b6b1a7d51;

# One method, which answers with the JSON text that it was sent.
interface Echo {
    echo @0 (json :Data) -> (json :Data);
}
