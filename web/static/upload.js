/** placeholder, written next */
