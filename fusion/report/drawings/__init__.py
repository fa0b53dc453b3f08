"""The report's drawings as inline SVG. Text stays text, and colours come from the page's style
(light, dark, print)."""
