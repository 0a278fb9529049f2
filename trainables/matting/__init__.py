"""Background matting: a person's alpha and colours, from a picture and one of the background without the person."""
