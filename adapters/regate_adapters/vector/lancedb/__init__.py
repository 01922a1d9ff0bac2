"""The vector store on LanceDB, inside the gateway's process."""
