"""Charts as SVG that stands in an HTML page: colours and type come from the page's style."""
