"""`python -m data.sample_field`."""

from data.sample_field.rendering import main

if __name__ == "__main__":
    main()
